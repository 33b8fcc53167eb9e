package install

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Names of what a Zitadel beside us has.
const (
	zitadelName      = "zitadel"
	zitadelSecret    = "fleet-zitadel"
	issuerTLS        = "fleet-issuer-tls"
	postgresName     = "fleet-zitadel-db"
	postgresDatabase = "zitadel" // and its owner

	keyMasterkey     = "masterkey" // the chart's name
	keyAdminPassword = "admin-password"
	keyZitadelConfig = "config-yaml"
	keyPostgresDSN   = "postgres-dsn"
)

// Annotations of an OpenShift namespace: the ids that its pods may have, as
// FIRST/COUNT or FIRST-LAST.
const (
	userRange  = "openshift.io/sa.scc.uid-range"
	groupRange = "openshift.io/sa.scc.supplemental-groups"
)

// zitadelRecipes are what is made once. The chart wants a masterkey of exactly 32
// characters; Zitadel wants a password with each kind of character.
func zitadelRecipes() map[string]recipe {
	return map[string]recipe{
		keyMasterkey:     func() ([]byte, error) { return []byte(rand.Text() + rand.Text())[:32], nil },
		keyAdminPassword: func() ([]byte, error) { return []byte("Aa1-" + rand.Text()), nil },
	}
}

func (o *Options) zitadelChart() Chart {
	version := o.ZitadelChart
	if version == "" {
		version = zitadelChartVersion
	}
	return Chart{Name: "zitadel", Version: version, Repository: zitadelRepository, VersionFlag: "zitadel-chart-version"}
}

// postgresKind is CloudNativePG's, the operator that runs PostgreSQL.
func postgresKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "postgresql.cnpg.io", Version: "v1", Kind: "Cluster"}
}

// clusterSpec is of postgresql.cnpg.io/v1 Cluster.
type clusterSpec struct {
	Instances int `json:"instances"`
	Bootstrap struct {
		InitDB struct {
			Database string `json:"database"`
			Owner    string `json:"owner"`
		} `json:"initdb"`
	} `json:"bootstrap"`
	Storage struct {
		Size         string `json:"size"`
		StorageClass string `json:"storageClass,omitempty"`
	} `json:"storage"`
}

// postgres is Zitadel's database, where none was named.
func (o *Options) postgres() client.Object {
	var spec clusterSpec
	spec.Instances, spec.Storage.Size, spec.Storage.StorageClass = 3, "10Gi", o.StorageClass
	spec.Bootstrap.InitDB.Database, spec.Bootstrap.InitDB.Owner = postgresDatabase, postgresDatabase
	return foreign("postgresql.cnpg.io/v1", "Cluster", o.objectMeta(postgresName, zitadelName), &spec)
}

// zitadelExposure is what makes Zitadel reachable where its chart does not: the
// chart makes ingresses.
func (o *Options) zitadelExposure() []client.Object {
	var all []client.Object
	for _, t := range []target{
		{zitadelName, o.issuerHost(), zitadelName, 8080, "/"},
		{zitadelName + "-login", o.issuerHost(), zitadelName + "-login", 3000, loginPath},
	} {
		switch o.Expose {
		case ExposeRoute:
			all = append(all, o.route(t))
		case ExposeGateway:
			all = append(all, o.httpRoute(t))
		}
	}
	return all
}

// zitadelPods are the objects whose pods it is made of.
func zitadelPods() []client.Object {
	var all []client.Object
	for _, name := range []string{zitadelName, zitadelName + "-login"} {
		all = append(all, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return all
}

// AwaitZitadel waits until its pods are ready.
func (i *Installer) AwaitZitadel(ctx context.Context, o *Options, timeout time.Duration) error {
	return i.awaitReady(ctx, o.Namespace, zitadelPods, timeout)
}

// inherit takes from an earlier installation what Zitadel was asked for then.
func (o *Options) inherit(kept *Options) {
	if o.WithZitadel && kept.WithZitadel && o.ProjectID == "" {
		o.ProjectID, o.ClientID, o.DashboardID = kept.ProjectID, kept.ClientID, kept.DashboardID
	}
}

// errNoPostgres says what Zitadel's database could be.
var errNoPostgres = hint.New("Zitadel needs a PostgreSQL, and CloudNativePG is not in this cluster",
	"install its operator (https://cloudnative-pg.io), or name a database with --postgres-dsn-file FILE")

// range of ids, as OpenShift writes them.
func firstOf(idRange string) (int64, error) {
	first, _, ok := strings.Cut(idRange, "/")
	if !ok {
		first, _, ok = strings.Cut(idRange, "-")
	}
	id, err := strconv.ParseInt(first, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no range of ids", idRange)
	}
	return id, nil
}

// ids reads which ids pods of the namespace may have; found is false while it
// does not say so.
func (i *Installer) ids(ctx context.Context, namespace string) (user, group int64, found bool, err error) {
	ns := &corev1.Namespace{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: namespace}, ns); err != nil {
		return 0, 0, false, client.IgnoreNotFound(err)
	}
	if ns.Annotations[userRange] == "" {
		return 0, 0, false, nil
	}
	user, userErr := firstOf(ns.Annotations[userRange])
	group = user
	var groupErr error
	if groups := ns.Annotations[groupRange]; groups != "" {
		group, groupErr = firstOf(groups)
	}
	if err := errors.Join(userErr, groupErr); err != nil {
		return 0, 0, false, fmt.Errorf("read the ids of namespace %s: %w", namespace, err)
	}
	return user, group, true, nil
}

// AwaitIDs waits until OpenShift has given a new namespace its ids.
func (i *Installer) AwaitIDs(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, establishTimeout, fmt.Errorf("namespace %s has no annotation %s within %s", namespace, userRange, establishTimeout))
	defer cancel()
	for {
		_, _, found, err := i.ids(ctx, namespace)
		if err != nil || found {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// awaitPostgres waits until a database takes connections.
func (i *Installer) awaitPostgres(ctx context.Context, o client.Object) error {
	ctx, cancel := context.WithTimeoutCause(ctx, postgresTimeout, fmt.Errorf("not within %s", postgresTimeout))
	defer cancel()
	told := ""
	for {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(postgresKind())
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(o), u); err != nil {
			return err
		}
		if ready, _, _ := unstructured.NestedInt64(u.Object, "status", "readyInstances"); ready > 0 {
			return nil
		}
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		if phase != "" && phase != told {
			told = phase
			i.say("waiting: PostgreSQL: %s", phase)
		}
		if err := pause(ctx); err != nil {
			return hint.Wrap(fmt.Errorf("wait until PostgreSQL is ready (%s): %w", told, err), "kubectl describe cluster.postgresql.cnpg.io -n "+o.GetNamespace()+" "+o.GetName())
		}
	}
}

const postgresTimeout = 10 * time.Minute // images are fetched

// SetupToken is the personal access token that Zitadel made at its first start.
func (i *Installer) SetupToken(ctx context.Context, o *Options) (string, error) {
	s := &corev1.Secret{}
	err := i.Client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: setupTokenName}, s)
	if apierrors.IsNotFound(err) || err == nil && len(s.Data[setupTokenKey]) == 0 {
		return "", hint.New("Zitadel's first start left no token in Secret "+setupTokenName,
			"it makes one once, in a new database: kubectl logs -n "+o.Namespace+" job/zitadel-setup; or make what the fleet needs there with fleetctl server setup-identity, and name the project with --project-id")
	}
	if err != nil {
		return "", fmt.Errorf("read Secret %s: %w", setupTokenName, err)
	}
	return strings.TrimSpace(string(s.Data[setupTokenKey])), nil
}
