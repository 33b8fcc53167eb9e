package issuer

import "net/http"

type management struct {
	storage  *storage
	provider *provider
	issuer   string
	log      interface{ Error(string, ...any) }
}

func (m *management) register(*http.ServeMux) {}
