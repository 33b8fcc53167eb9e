package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// The registry was once a file for each device. Migrate reads those.
type file struct {
	Device    string    `json:"device"`
	MachineID string    `json:"machineId"`
	Enrolled  time.Time `json:"enrolled"`
	Revoked   time.Time `json:"revoked,omitzero"`
}

const (
	fileSuffix = ".json"
	// migrated is what the directory of files is called when it is done.
	migrated = ".migrated"
)

// Migrate makes Devices of the files in dir, and sets the directory aside. It
// can be interrupted and repeated. A file that cannot be read ends it: a
// revoked device must not come back because of it. It gives how many there
// were.
func Migrate(ctx context.Context, c client.Client, dir string) (int, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read registry: %w", err)
	}
	done := 0
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), fileSuffix)
		if !ok {
			continue // what an interrupted write left
		}
		e, err := readFile(dir, id)
		if err != nil {
			return done, hint.Wrap(err, "restore the file from a backup; or remove it, and onboard the device again")
		}
		if err := e.migrate(ctx, c); err != nil {
			return done, fmt.Errorf("make an object of registry entry %s: %w", id, err)
		}
		done++
	}
	if err := os.Rename(dir, dir+migrated); err != nil {
		return done, fmt.Errorf("set the old registry aside: %w", err)
	}
	return done, nil
}

func readFile(dir, id string) (file, error) {
	path := filepath.Join(dir, id+fileSuffix)
	data, err := secretfile.Read(path)
	if err != nil {
		return file{}, err
	}
	var e file
	if err := json.Unmarshal(data, &e); err != nil {
		return file{}, fmt.Errorf("decode registry entry %s: %w", path, err)
	}
	if e.Device != id || wire.ValidateDeviceID(id) != nil {
		return file{}, fmt.Errorf("registry entry %s is about device %q", path, e.Device)
	}
	return e, nil
}

// migrate writes one entry, unless its Device has a registration already.
func (e file) migrate(ctx context.Context, c client.Client) error {
	spec := v1alpha1.DeviceSpec{MachineID: e.MachineID, Enrolled: &metav1.Time{Time: e.Enrolled}}
	if !e.Revoked.IsZero() {
		spec.Revoked = &metav1.Time{Time: e.Revoked}
	}
	for range attempts {
		live := &v1alpha1.Device{}
		err := c.Get(ctx, client.ObjectKey{Name: e.Device}, live)
		switch {
		case apierrors.IsNotFound(err):
			live = nil
		case err != nil:
			return err
		case live.Spec.Enrolled != nil:
			return nil
		}
		_, err = write(ctx, c, e.Device, live, spec)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return errors.New("others change it all the time")
}
