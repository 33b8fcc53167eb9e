package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// quotaBytes is where etcd stops taking writes; 8 GiB is upstream's recommended
// maximum and far above what a fleet's objects need.
const quotaBytes = 8 << 30

// store is the embedded etcd: one member, reachable on a unix socket only.
type store struct {
	etcd      *embed.Etcd
	endpoint  string
	socketDir *os.File
}

// openStore starts etcd on dir. Nobody but this user can reach it: etcd has no
// authentication here, so the socket lives in a directory of mode 0700.
func openStore(ctx context.Context, dir string, log zapcore.Core) (_ *store, err error) {
	if err := secretfile.EnsureDir(dir); err != nil {
		return nil, err
	}
	s := &store{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	socket, err := s.socketPath(dir)
	if err != nil {
		return nil, err
	}
	endpoint := url.URL{Scheme: "unix", Path: socket}
	s.endpoint = endpoint.String()

	cfg := embed.NewConfig()
	cfg.Name = "fleet"
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ListenClientUrls = []url.URL{endpoint}
	cfg.AdvertiseClientUrls = []url.URL{endpoint}
	// There are no peers. A unix peer URL would open a socket in the abstract
	// namespace, which has no file mode and so is open to every user; the
	// advertised address is only a name in the member list.
	cfg.ListenPeerUrls = nil
	peer := url.URL{Scheme: "http", Host: "localhost:2380"}
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	// A lone member waits for an election timeout before it leads, at every
	// start; with nobody to disagree the shortest sensible one is right.
	cfg.TickMs, cfg.ElectionMs = 20, 200
	cfg.QuotaBackendBytes = quotaBytes
	cfg.EnableGRPCGateway = false
	// What was written since the last snapshot, and some before it for members
	// that fell behind, is kept in memory as it was written. There are no
	// others, and 15,000 writes, the defaults, are 100 MB of Devices.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 1000, 1
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(log))

	if s.etcd, err = embed.StartEtcd(cfg); err != nil {
		return nil, err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return s, nil
	case err := <-s.etcd.Err():
		return nil, err
	case <-s.etcd.Server.StopNotify():
		return nil, errors.New("etcd stopped while starting")
	case <-ctx.Done():
		return nil, fmt.Errorf("etcd has no leader yet: %w", context.Cause(ctx))
	}
}

// maxSocketPath is what sockaddr_un holds on every supported system, less the
// suffix etcd's client may add while resolving.
const maxSocketPath = 100

// socketPath names the socket in dir. Kernels refuse long names, and data
// directories are the user's choice: a long one is reached through the
// directory's file descriptor, which makes the name short and leaves nothing
// outside dir after a crash.
func (s *store) socketPath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("locate etcd's directory: %w", err)
	}
	const name = "etcd.sock"
	if path := filepath.Join(dir, name); len(path) <= maxSocketPath {
		return path, nil
	}
	if s.socketDir, err = os.Open(dir); err != nil {
		return "", fmt.Errorf("open etcd's directory: %w", err)
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(s.socketDir.Fd())), name), nil
}

func (s *store) close() {
	if s.etcd != nil {
		s.etcd.Close()
	}
	if s.socketDir != nil {
		_ = s.socketDir.Close()
	}
}
