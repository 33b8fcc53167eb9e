package install

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Zitadel's official chart, and the version whose values these are.
const (
	zitadelRepository   = "https://charts.zitadel.com"
	zitadelChartVersion = "9.12.3"
)

// What Zitadel makes at its first start.
const (
	setupUser      = "fleet-setup" // a machine, whose personal access token sets up the fleet
	setupTokenName = setupUser + "-pat"
	setupTokenKey  = "pat"
	loginSecret    = "login-client" // the chart's own name
	// patExpiry is far away because the token is there for the first set-up and
	// for repairs; it is a Secret like every other key here.
	patExpiry = "2099-01-01T00:00:00Z"
)

// loginPath is what the login's pages are at, beside Zitadel itself.
const loginPath = "/ui/v2/login"

// zitadelValues are the values of that chart (github.com/zitadel/zitadel-charts),
// as far as they are ours. Secrets are not among them: they are in Secret
// fleet-zitadel, which they name.
type zitadelValues struct {
	FullnameOverride string            `json:"fullnameOverride"`
	ReplicaCount     int               `json:"replicaCount"`
	PodAnnotations   map[string]string `json:"podAnnotations"` // others pods, when the Secret is another
	Zitadel          struct {
		MasterkeySecretName string        `json:"masterkeySecretName"`
		ConfigSecretName    string        `json:"configSecretName"`
		ConfigSecretKey     string        `json:"configSecretKey"`
		ConfigmapConfig     zitadelConfig `json:"configmapConfig"`
		DBSSLCACrtSecret    string        `json:"dbSslCaCrtSecret,omitempty"`
	} `json:"zitadel"`
	Env     []corev1.EnvVar `json:"env,omitempty"`
	Ingress zitadelIngress  `json:"ingress"`
	Login   zitadelLogin    `json:"login"`
	PDB     zitadelBudget   `json:"pdb"`
	InitJob zitadelInit     `json:"initJob"`
	Cleanup natsEnabled     `json:"cleanupJob"` // it would remove tokens that are shown once
	zitadelSecurity
}

type zitadelSecurity struct {
	PodSecurityContext *corev1.PodSecurityContext `json:"podSecurityContext"`
	SecurityContext    *corev1.SecurityContext    `json:"securityContext"`
}

type zitadelLogin struct {
	ReplicaCount int            `json:"replicaCount"`
	Ingress      zitadelIngress `json:"ingress"`
	PDB          zitadelBudget  `json:"pdb"`
	zitadelSecurity
}

type zitadelBudget struct {
	Enabled        bool `json:"enabled"`
	MaxUnavailable int  `json:"maxUnavailable"`
}

// zitadelInit leaves out what the database's owner may not, and need not: making
// the database and its owner.
type zitadelInit struct {
	Command string `json:"command"`
}

type zitadelIngress struct {
	Enabled     bool              `json:"enabled"`
	ClassName   string            `json:"className,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	TLS         []zitadelTLS      `json:"tls,omitempty"`
}

type zitadelTLS struct {
	Hosts      []string `json:"hosts"`
	SecretName string   `json:"secretName"`
}

// zitadelConfig is of Zitadel's own configuration (cmd/defaults.yaml there).
type zitadelConfig struct {
	ExternalDomain string
	ExternalPort   int
	ExternalSecure bool
	TLS            struct{ Enabled bool }
	FirstInstance  zitadelFirst
	Database       *zitadelDatabase `json:",omitempty"`
}

type zitadelFirst struct {
	Org struct {
		Name  string
		Human struct {
			UserName, FirstName, LastName string
			Email                         struct {
				Address  string
				Verified bool
			}
			PasswordChangeRequired bool
		}
		Machine struct {
			Machine struct{ Username, Name string }
			Pat     struct{ ExpirationDate string }
		}
		LoginClient struct {
			Machine struct{ Username, Name string }
			Pat     struct{ ExpirationDate string }
		}
	}
}

type zitadelDatabase struct {
	Postgres zitadelPostgres
}

type zitadelPostgres struct {
	Host     string `json:",omitempty"`
	Port     int    `json:",omitempty"`
	Database string `json:",omitempty"`
	User     zitadelDatabaseUser
	// Admin is the same: the chart's jobs look for one.
	Admin zitadelDatabaseUser
}

type zitadelDatabaseUser struct {
	Username string      `json:",omitempty"`
	Password string      `json:",omitempty"`
	SSL      *zitadelSSL `json:",omitempty"`
}

type zitadelSSL struct{ Mode string }

// zitadelSecretConfig is the part of the configuration that is secret.
type zitadelSecretConfig struct {
	FirstInstance struct {
		Org struct {
			Human struct{ Password string }
		}
	}
	Database *zitadelDatabase `json:",omitempty"`
}

// issuerHost is the public name of the Zitadel beside us.
func (o *Options) issuerHost() string { return "id." + o.Domain }

// IssuerURL is the issuer of people's and devices' tokens.
func (o *Options) IssuerURL() string {
	if o.WithZitadel {
		return "https://" + o.issuerHost()
	}
	return o.Issuer
}

// AdminLogin is the name that the first administrator signs in to Zitadel with.
func (o *Options) AdminLogin() string { return "admin@" + o.Domain }

// zitadelValues are the values for these secrets.
func (o *Options) zitadelValues(c Cluster, secrets Secrets) (*zitadelValues, error) {
	v := &zitadelValues{FullnameOverride: zitadelName, ReplicaCount: 2, PDB: zitadelBudget{true, 1}, InitJob: zitadelInit{"zitadel"}}
	v.PodAnnotations = map[string]string{configurationAnnotation: digest(secrets[zitadelSecret][keyZitadelConfig])}
	z := &v.Zitadel
	z.MasterkeySecretName, z.ConfigSecretName, z.ConfigSecretKey = zitadelSecret, zitadelSecret, keyZitadelConfig
	z.ConfigmapConfig = o.zitadelConfig()
	if dsn := string(secrets[zitadelSecret][keyPostgresDSN]); dsn != "" {
		database, _, err := parseDSN(dsn)
		if err != nil {
			return nil, err
		}
		z.ConfigmapConfig.Database = &zitadelDatabase{database}
	} else {
		// CloudNativePG makes the owner's password and the authority of its servers.
		z.DBSSLCACrtSecret = postgresName + "-ca"
		z.ConfigmapConfig.Database = &zitadelDatabase{zitadelPostgres{Host: postgresName + "-rw", Port: 5432, Database: postgresDatabase,
			User: postgresUser("verify-full"), Admin: postgresUser("verify-full")}}
		from := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: postgresName + "-app"}, Key: "password"}}
		for _, whose := range []string{"USER", "ADMIN"} {
			v.Env = append(v.Env, corev1.EnvVar{Name: "ZITADEL_DATABASE_POSTGRES_" + whose + "_PASSWORD", ValueFrom: from})
		}
	}
	security := zitadelPodSecurity(c)
	v.zitadelSecurity, v.Login = security, zitadelLogin{ReplicaCount: 2, PDB: zitadelBudget{true, 1}, zitadelSecurity: security}
	if o.Expose == ExposeIngress {
		v.Ingress, v.Login.Ingress = o.zitadelIngresses()
	}
	return v, nil
}

func (o *Options) zitadelConfig() zitadelConfig {
	// What is behind the public URL is plain: what is before it ends TLS. With
	// another port or scheme here, every URL that Zitadel makes would be wrong.
	c := zitadelConfig{ExternalDomain: o.issuerHost(), ExternalPort: 443, ExternalSecure: true}
	org := &c.FirstInstance.Org
	org.Name = "fleet"
	org.Human.UserName, org.Human.FirstName, org.Human.LastName = o.AdminLogin(), "Fleet", "Administrator"
	org.Human.Email.Address, org.Human.Email.Verified, org.Human.PasswordChangeRequired = o.AdminLogin(), true, true
	org.Machine.Machine.Username, org.Machine.Machine.Name, org.Machine.Pat.ExpirationDate = setupUser, "Sets up the fleet", patExpiry
	org.LoginClient.Machine.Username, org.LoginClient.Machine.Name, org.LoginClient.Pat.ExpirationDate = loginSecret, "Login pages", patExpiry
	return c
}

// zitadelIngresses are two for one name, with one certificate: one of them alone
// asks cert-manager for it, or the two would fight over it.
func (o *Options) zitadelIngresses() (main, login zitadelIngress) {
	tls := []zitadelTLS{{[]string{o.issuerHost()}, issuerTLS}}
	main = zitadelIngress{Enabled: true, ClassName: o.IngressClass, TLS: tls, Annotations: map[string]string{
		"nginx.ingress.kubernetes.io/backend-protocol": "GRPC", // HTTP/2 in plain text, gRPC and REST
	}}
	if o.ClusterIssuer != "" {
		main.Annotations["cert-manager.io/cluster-issuer"] = o.ClusterIssuer
	}
	if o.TLSSecret != "" {
		tls[0].SecretName = o.TLSSecret
	}
	return main, zitadelIngress{Enabled: true, ClassName: o.IngressClass, TLS: tls}
}

// zitadelPodSecurity is the restricted profile. The chart's own user id would be
// refused on OpenShift, which wants one of the namespace's.
func zitadelPodSecurity(c Cluster) zitadelSecurity {
	user, group := int64(natsUser), int64(natsUser)
	if c.OpenShift {
		user, group = c.FirstUser, c.FirstGroup
	}
	return zitadelSecurity{
		PodSecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: to(true), RunAsUser: to(user), FSGroup: to(group),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		SecurityContext: &corev1.SecurityContext{RunAsNonRoot: to(true), RunAsUser: to(user), ReadOnlyRootFilesystem: to(true), Privileged: to(false),
			AllowPrivilegeEscalation: to(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
	}
}

func postgresUser(ssl string) zitadelDatabaseUser {
	return zitadelDatabaseUser{Username: postgresDatabase, SSL: &zitadelSSL{ssl}}
}

// zitadelSecrets completes the Secret of Zitadel: its configuration follows from
// the password that was made once, and from the database that was named.
func (o *Options) zitadelSecrets(data map[string][]byte) error {
	var c zitadelSecretConfig
	c.FirstInstance.Org.Human.Password = string(data[keyAdminPassword])
	if o.PostgresDSN != "" {
		data[keyPostgresDSN] = []byte(o.PostgresDSN)
	}
	if dsn := string(data[keyPostgresDSN]); dsn != "" {
		_, password, err := parseDSN(dsn)
		if err != nil {
			return err
		}
		user := zitadelDatabaseUser{Password: password}
		c.Database = &zitadelDatabase{zitadelPostgres{User: user, Admin: user}}
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode Zitadel's configuration: %w", err)
	}
	data[keyZitadelConfig] = text
	return nil
}

// parseDSN reads postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?sslmode=MODE], and
// gives the password apart. Its errors do not hold it.
func parseDSN(dsn string) (p zitadelPostgres, password string, err error) {
	u, err := url.Parse(strings.TrimSpace(dsn))
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" || u.User == nil || len(u.Path) < 2 {
		return p, "", errors.New("--postgres-dsn-file does not hold postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?sslmode=MODE]")
	}
	p = zitadelPostgres{Host: u.Hostname(), Port: 5432, Database: strings.TrimPrefix(u.Path, "/")}
	if u.Port() != "" {
		if p.Port, err = strconv.Atoi(u.Port()); err != nil {
			return p, "", errors.New("--postgres-dsn-file: the port is no number")
		}
	}
	p.User = zitadelDatabaseUser{Username: u.User.Username(), SSL: &zitadelSSL{cmp.Or(u.Query().Get("sslmode"), "verify-full")}}
	p.Admin = p.User
	password, _ = u.User.Password()
	return p, password, nil
}
