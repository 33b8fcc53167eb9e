package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/*.json for payloads that have none yet")

func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

// payloads is one full example of every payload that crosses the network.
func payloads(t *testing.T) map[string]any {
	t.Helper()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	manifest := Manifest{SchemaVersion: 1, Device: "pi-1", Revision: 7,
		Deployments: []ManifestEntry{{Name: "hello", SHA256: Hash([]byte("{}"))}}}
	sealed, err := Seal(KindManifest, manifest, testKey())
	if err != nil {
		t.Fatal(err)
	}
	var envelope Envelope
	if err := json.Unmarshal(sealed, &envelope); err != nil {
		t.Fatal(err)
	}
	public := testKey().Public().(ed25519.PublicKey)
	set := KeySet{SchemaVersion: 1, Revision: 3, Keys: []ed25519.PublicKey{public}}
	sealedSet, err := Seal(KindKeys, set, testKey())
	if err != nil {
		t.Fatal(err)
	}
	withKeys := envelope
	withKeys.Keys = []json.RawMessage{sealedSet}
	score := PodmanV0{Services: []Service{{
		Name: "web", Image: "registry.example.com/web:1.2", Ports: []string{"8080:80", "127.0.0.1:5353:53/udp"},
		Env:           []EnvVar{{Name: "MODE", Value: "a=b\n\"c\""}},
		Volumes:       []Volume{{HostPath: "/srv/data", ContainerPath: "/data", ReadOnly: true}},
		RestartPolicy: RestartAlways, StopTimeout: &Duration{90 * time.Second},
	}}}
	data, err := json.Marshal(score)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"manifest":      manifest,
		"envelope":      envelope,
		"envelope.2":    withKeys,
		"key-set":       set,
		"desired-state": DesiredState{SchemaVersion: 1, Deployment: "hello", Namespace: "default", UID: "6f1c", Generation: 3, Score: Score{Type: ScorePodmanV0, Data: data}},
		"podman-v0":     score,
		"podman-v0.2":   fullScore(),
		"desired-state.2": DesiredState{SchemaVersion: 1, Deployment: "hello", Namespace: "default", UID: "6f1c", Generation: 3,
			Score: Score{Type: ScorePodmanV0, Data: data}, Sealed: &Sealed{Recipient: "00ff", Tag: "aa", Ciphertext: []byte("c"), Missing: "m"}},
		"material": Material{Objects: map[string]map[string][]byte{"secret/tls": {"tls.key": []byte("k")}}},
		"device-state.2": DeviceState{SchemaVersion: 1, Device: "pi-1", Revision: 7, At: at, Error: "x", Warnings: []string{"disk"}, Deployments: []DeploymentState{{
			Name: "hello", UID: "6f1c", Generation: 3, Phase: PhaseFailed, Message: "pull: not found", Since: at,
			Services: []ServiceState{{Name: "web", Phase: PhaseRunning, Message: "m", ContainerID: "ab12", Image: "i", ImageDigest: "sha256:00", StartedAt: &at, Health: HealthHealthy}},
		}}},
		"device-state.3": DeviceState{SchemaVersion: 1, Device: "pi-1", Revision: 7, At: at, Error: "x", Warnings: []string{"disk"}, Deployments: []DeploymentState{{
			Name: "hello", UID: "6f1c", Generation: 3, Phase: PhaseFailed, Message: "web: exited with code 137 (out of memory)", Since: at,
			Services: []ServiceState{{Name: "web", Phase: PhaseFailed, Message: "exited with code 137 (out of memory)", ContainerID: "ab12", Image: "i",
				ImageDigest: "sha256:00", StartedAt: &at, Health: HealthUnhealthy, Reason: ReasonOutOfMemory}},
		}}},
		"device-state.4": DeviceState{SchemaVersion: 1, Device: "pi-1", Revision: 7, At: at, Error: "x", Warnings: []string{"disk"}, Refusal: RefusedSignature, Deployments: []DeploymentState{{
			Name: "hello", UID: "6f1c", Generation: 3, Phase: PhaseFailed, Message: "web: exited with code 137 (out of memory)", Since: at,
			Services: []ServiceState{{Name: "web", Phase: PhaseFailed, Message: "exited with code 137 (out of memory)", ContainerID: "ab12", Image: "i",
				ImageDigest: "sha256:00", StartedAt: &at, Health: HealthUnhealthy, Reason: ReasonOutOfMemory}},
		}}},
		"pinned-keys":   PinnedKeys{SchemaVersion: 1, Keys: []ed25519.PublicKey{public}},
		"pinned-keys.2": PinnedKeys{SchemaVersion: 1, Keys: []ed25519.PublicKey{public}, Revision: 3},
		"device-state": DeviceState{SchemaVersion: 1, Device: "pi-1", Revision: 7, At: at, Error: "x", Deployments: []DeploymentState{{
			Name: "hello", UID: "6f1c", Generation: 3, Phase: PhaseFailed, Message: "pull: not found", Since: at,
			Services: []ServiceState{{Name: "web", Phase: PhaseRunning, Message: "m", ContainerID: "ab12", Image: "i", ImageDigest: "sha256:00", StartedAt: &at}},
		}}},
		"device-info": DeviceInfo{SchemaVersion: 1, Device: "pi-1", MachineID: "00ff", Labels: map[string]string{"site": "lyon"}, StartedAt: at,
			Inventory: Inventory{Hostname: "pi-1", OS: "Debian", Kernel: "6.1", Architecture: "arm64", Model: "Pi", CPUs: 4, MemoryBytes: 1, DiskBytes: 2,
				AgentVersion: "v1", PodmanVersion: "5", BootID: "b", CgroupsVersion: "2", ContainerEngine: "podman"}},
		"device-info.2": DeviceInfo{SchemaVersion: 1, Device: "pi-1", MachineID: "00ff", Labels: map[string]string{"site": "lyon"}, StartedAt: at,
			Inventory: Inventory{Hostname: "pi-1", OS: "Debian", Kernel: "6.1", Architecture: "arm64", Model: "Pi", CPUs: 4, MemoryBytes: 1, DiskBytes: 2,
				AgentVersion: "v1", PodmanVersion: "5", BootID: "b", CgroupsVersion: "2", ContainerEngine: "podman"},
			SigningKeys: []string{KeyID(public)}, KeysRevision: 3},
		"heartbeat":       Heartbeat{SchemaVersion: 1, Device: "pi-1", At: at, Revision: 7},
		"command":         Command{SchemaVersion: 1, Device: "pi-1", Verb: VerbPing, Nonce: "abcdefgh01234567", Expires: at, Body: json.RawMessage(`{}`)},
		"reply":           Reply{SchemaVersion: 1, Sequence: 2, Data: []byte("hi"), Done: true, Error: &ReplyError{Code: ReplyFailed, Message: "no"}},
		"reply.2":         Reply{SchemaVersion: 1, Sequence: 2, Data: []byte("hi"), Done: true, Error: &ReplyError{Code: ReplyFailed, Message: "no"}, Consumed: 9},
		"exec-request":    ExecRequest{Target: Target{Deployment: "hello", Service: "web"}, Command: []string{"sh"}, Stdin: true, TTY: true, Size: Size{Rows: 24, Columns: 80}},
		"forward-request": ForwardRequest{Target: Target{Deployment: "hello", Service: "web"}, Port: 80},
		"copy-request":    CopyRequest{Target: Target{Deployment: "hello", Service: "web"}, Path: "/etc/x"},
		"file-info":       FileInfo{Exists: true, Name: "x", Dir: true, Size: 5},
		"stream-input":    StreamInput{Stream: "abcdefgh01234567", Sequence: 3, Data: []byte("ls"), End: true, Size: &Size{Rows: 24, Columns: 80}},
		"logs-request":    LogsRequest{Target: Target{Deployment: "hello", Service: "web"}, Follow: true, SinceSeconds: 60, Tail: 10},
		"stream-control":  StreamControl{Stream: "abcdefgh01234567", Received: 7, Cancel: true},
	}
}

// TestReleasedPayloadsStillDecode reads every JSON that was ever released into
// today's types, strictly and without loss. A file that fails here means that
// a device in the field would no longer be understood.
func TestReleasedPayloadsStillDecode(t *testing.T) {
	for name, want := range payloads(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "v1", name+".json")
			if *update {
				data, err := json.MarshalIndent(want, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(path); os.IsNotExist(err) {
					if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := reflect.New(reflect.TypeOf(want))
			dec := json.NewDecoder(bytes.NewReader(data))
			dec.DisallowUnknownFields()
			if err := dec.Decode(got.Interface()); err != nil {
				t.Fatal(err)
			}
			gotJSON, _ := json.Marshal(got.Elem().Interface())
			wantJSON, _ := json.Marshal(want)
			if !bytes.Equal(gotJSON, wantJSON) {
				t.Errorf("decoded %s\n   want %s", gotJSON, wantJSON)
			}
		})
	}
}

// grown are examples from before fields were added: the ones that follow them
// are full.
var grown = []string{"envelope", "pinned-keys", "device-info", "reply", "podman-v0", "desired-state", "device-state", "device-state.2", "device-state.3"}

// TestExamplesAreFull keeps the goldens honest: a new field must be in them.
func TestExamplesAreFull(t *testing.T) {
	for name, v := range payloads(t) {
		if !slices.Contains(grown, name) {
			requireNonZero(t, name, reflect.ValueOf(v))
		}
	}
}

// fullScore has every field of a service.
func fullScore() PodmanV0 {
	second := &Duration{time.Second}
	return PodmanV0{Services: []Service{{
		Name: "web", Image: "registry.example.com/web@sha256:" + Hash(nil), Ports: []string{"8080:80"},
		Env: []EnvVar{{Name: "MODE", Value: "a", ValueFrom: &ValueFrom{
			SecretKeyRef: &KeyRef{Name: "db", Key: "password"}, ConfigMapKeyRef: &KeyRef{Name: "app", Key: "mode"}}}},
		Volumes:       []Volume{{HostPath: "/srv/data", ContainerPath: "/data", ReadOnly: true}},
		RestartPolicy: RestartAlways, StopTimeout: second,
		Entrypoint: []string{"/app"}, Command: []string{"serve"}, User: "1000:1000", WorkingDir: "/srv",
		Labels: map[string]string{"team": "web"}, Limits: &Limits{CPUs: "0.5", Memory: "128Mi"},
		HealthCheck: &HealthCheck{Command: []string{"/app", "check"}, HTTP: &HTTPCheck{Port: 80, Path: "/healthz"},
			Interval: second, Timeout: second, Retries: 3, StartPeriod: second},
		Devices: []string{"/dev/ttyUSB0:/dev/modem:rw"}, Tmpfs: []Tmpfs{{Path: "/tmp", Size: "16Mi"}},
		NetworkMode: NetworkPrivate, PullPolicy: PullAlways, RegistryCredentials: "registry", DependsOn: []string{"db"},
		Files: []File{{Path: "/etc/tls", Secret: "tls", ConfigMap: "app", Keys: []string{"tls.key"}}},
	}}}
}

func requireNonZero(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				requireNonZero(t, path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
		return
	case reflect.Pointer:
		if !v.IsNil() {
			requireNonZero(t, path, v.Elem())
			return
		}
	case reflect.Slice:
		if v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
			requireNonZero(t, path+"[0]", v.Index(0))
			return
		}
	case reflect.Bool:
		return
	}
	if v.IsZero() {
		t.Errorf("%s is not set in the example", path)
	}
}

func TestEmptyOptionalFieldsDecode(t *testing.T) {
	p, err := DecodePodmanV0([]byte(`{"services":[{"name":"web","image":"nginx"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Services[0].RestartPolicy.Or(); got != RestartUnlessStopped {
		t.Errorf("default restart policy is %q", got)
	}
}
