package apiclient

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// NewInProcess gives a client of an API in this process: the same checks, the
// same record, no network. token and from are asked before each request; from
// gives the address on whose behalf it is made.
func NewInProcess(api http.Handler, token func(context.Context) (string, error), from func(context.Context) string) *Client {
	through := &http.Client{Transport: inProcess{api, from}, Timeout: requestTimeout}
	long := &http.Client{Transport: through.Transport}
	return &Client{base: &url.URL{Scheme: "https", Host: "fleet-server"}, token: token, http: through, long: long}
}

type inProcess struct {
	api  http.Handler
	from func(context.Context) string
}

// RoundTrip has the handler answer, in a goroutine that ends when the request's
// context does or the body of the answer is closed.
func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	r := req.Clone(ctx)
	r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), p.from(ctx)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	w := &pipeWriter{header: http.Header{}, body: writer, begun: make(chan struct{}),
		resp: &http.Response{Request: req, Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: -1, Trailer: http.Header{}}}
	w.resp.Body = &answerBody{reader, cancel}
	go func() {
		defer cancel()
		p.api.ServeHTTP(w, r)
		w.end()
	}()
	select {
	case <-w.begun:
		return w.resp, nil
	case <-req.Context().Done():
		cancel()
		_ = reader.Close() // the handler's writes fail from now on
		return nil, req.Context().Err()
	}
}

// answerBody ends the handler when it is closed before its end.
type answerBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *answerBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// pipeWriter is the ResponseWriter; the handler alone uses it.
type pipeWriter struct {
	header  http.Header
	body    *io.PipeWriter
	resp    *http.Response
	begun   chan struct{}
	started bool
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.started {
		return
	}
	w.started = true
	w.resp.StatusCode, w.resp.Status = status, http.StatusText(status)
	w.resp.Header = w.header.Clone()
	close(w.begun)
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// A pipe has no deadlines and holds nothing back.

func (w *pipeWriter) Flush()                           {}
func (w *pipeWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *pipeWriter) SetWriteDeadline(time.Time) error { return nil }

// end hands over the trailers, as net/http's server does.
func (w *pipeWriter) end() {
	w.WriteHeader(http.StatusOK)
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			w.resp.Trailer[http.CanonicalHeaderKey(name)] = values
		}
	}
	_ = w.body.Close() // never fails
}
