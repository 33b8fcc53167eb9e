package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/fleetsim"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

func newBenchCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a control plane under load",
	}
	cmd.AddCommand(newBenchFleetCmd(f))
	return cmd
}

type benchFleetOptions struct {
	devices, deployments, rate int
	duration                   time.Duration
	seed                       uint64
	namespace                  string
	rollout, keep              bool
}

func newBenchFleetCmd(f *Factory) *cobra.Command {
	o := &benchFleetOptions{}
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Play a fleet of devices against the control plane",
		Long: `Plays devices against the control plane: each has a connection and a credential
of its own and speaks the protocol of a real one, without containers behind it.
They report states at the rate asked for while Deployments are changed; at the
end every Deployment's status is compared with the sum of what was reported.
With --rollout a change of one more Deployment is then rolled out over all of
them, in batches of a tenth and with no more than that down at a time.

The devices are called bench-000000 and so on. They and their Deployments are
removed at the end, also after ctrl-C. The server has to take pre-shared keys
(fleet-server all --allow-psk). Do not run it against a fleet that is in
use: the load is meant to be felt.`,
		Example: `  fleetctl bench fleet --devices 1000 --deployments 100 --rate 1000 --duration 30s
  fleetctl bench fleet --devices 10000 --deployments 1000 --rate 10000 --duration 120s -o json
  fleetctl bench fleet --devices 1000 --rollout`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBenchFleet(cmd.Context(), f, o) },
	}
	flags := cmd.Flags()
	flags.IntVar(&o.devices, "devices", 1000, "`number` of devices")
	flags.IntVar(&o.deployments, "deployments", 100, "`number` of Deployments; each device matches one")
	flags.IntVar(&o.rate, "rate", 1000, "state writes a second, of all devices together")
	flags.DurationVar(&o.duration, "duration", 30*time.Second, "how long to write")
	flags.Uint64Var(&o.seed, "seed", 1, "what the devices report follows from this `number`")
	flags.BoolVar(&o.rollout, "rollout", false, "after the load, roll a change out over all devices")
	flags.BoolVar(&o.keep, "keep", false, "leave the devices and Deployments there, for a server that is thrown away")
	flags.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of the Deployments")
	return cmd
}

// benchFleetResult is the JSON that scripts rely on.
type benchFleetResult struct {
	SchemaVersion   int      `json:"schemaVersion"`
	Devices         int      `json:"devices"`
	Connections     int      `json:"connections"`
	Deployments     int      `json:"deployments"`
	Seconds         float64  `json:"seconds"`
	Writes          int64    `json:"writes"`
	WritesPerSecond float64  `json:"writesPerSecond"`
	Errors          int64    `json:"errors"`
	FirstError      string   `json:"firstError,omitempty"`
	Aggregates      int      `json:"aggregates"`
	AggregatesRight int      `json:"aggregatesRight"`
	Wrong           []string `json:"wrong,omitempty"`
	// From a change of a Deployment to the hint of a device.
	Hints          int     `json:"hints"`
	HintsMissed    int     `json:"hintsMissed"`
	P50Millis      float64 `json:"p50Millis"`
	P99Millis      float64 `json:"p99Millis"`
	WriteP99Millis float64 `json:"writeP99Millis"`
	// 0 when the server is elsewhere.
	ServerRSSBytes   int64   `json:"serverRSSBytes"`
	ServerCPUSeconds float64 `json:"serverCPUSeconds"` // during the writes
	OwnCPUSeconds    float64 `json:"ownCPUSeconds"`    // of playing the devices meanwhile
	// Rollout is there with --rollout.
	Rollout *benchRollout `json:"rollout,omitempty"`
}

type benchRollout struct {
	Seconds         float64 `json:"seconds"` // from the change until it is complete
	Batches         int     `json:"batches"`
	MaxUnavailable  int     `json:"maxUnavailable"`  // devices that may be down at a time
	MostUnavailable int     `json:"mostUnavailable"` // that were, by what they themselves did
}

// collectorPercent lets the heap of this process grow to five times of what is
// live: it shares the processors with the server that it measures, and a collector
// that works often would be measured too.
const collectorPercent = 400

func runBenchFleet(ctx context.Context, f *Factory, o *benchFleetOptions) error {
	debug.SetGCPercent(collectorPercent)
	server, err := f.API()
	if err != nil {
		return err
	}
	kube, err := kubeClient(f)
	if err != nil {
		return err
	}
	endpoints, err := f.Endpoints()
	if err != nil {
		return err
	}
	cfg := fleetsim.Config{
		Devices: o.devices, Deployments: o.deployments, Rate: o.rate, Duration: o.duration, Seed: o.seed, Namespace: o.namespace, Rollout: o.rollout, Keep: o.keep,
		Enrol: server.Enrol,
		Revoke: func(ctx context.Context, device string) error {
			_, err := server.Revoke(ctx, device)
			return err
		},
		Kube:      kube,
		ServerUse: func() fleetsim.Use { return processUse(endpoints.PID) },
		Log:       f.Log(),
		Progress:  benchProgress(f),
	}
	if err := cfg.Validate(); err != nil {
		return usageError(err, "see: fleetctl bench fleet --help")
	}
	result, err := fleetsim.Run(ctx, cfg)
	if err != nil {
		return explainKube(fmt.Errorf("play a fleet: %w", err))
	}
	out := benchFleetResult{
		SchemaVersion: api.SchemaVersion, Devices: result.Devices, Connections: result.Connections, Deployments: result.Deployments,
		Seconds: result.Load.Seconds(), Writes: result.Writes, WritesPerSecond: float64(result.Writes) / result.Load.Seconds(),
		Errors: result.Errors, FirstError: result.FirstError,
		Aggregates: result.Deployments, AggregatesRight: result.AggregatesRight, Wrong: result.Wrong,
		Hints: result.Hints, HintsMissed: result.HintsMissed, P50Millis: millis(result.HintP50), P99Millis: millis(result.HintP99),
		WriteP99Millis: millis(result.WriteP99), ServerRSSBytes: result.ServerRSS,
		ServerCPUSeconds: result.ServerCPU.Seconds(), OwnCPUSeconds: result.OwnCPU.Seconds(),
	}
	if r := result.Rollout; r != nil {
		out.Rollout = &benchRollout{Seconds: r.Took.Seconds(), Batches: r.Batches, MaxUnavailable: r.MaxUnavailable, MostUnavailable: r.MostUnavailable}
	}
	if err := f.Print(out, out.text); err != nil {
		return err
	}
	if out.AggregatesRight != out.Aggregates || out.HintsMissed > 0 {
		return fmt.Errorf("%d of %d aggregates are right, %d hints missed", out.AggregatesRight, out.Aggregates, out.HintsMissed)
	}
	if r := out.Rollout; r != nil && r.MostUnavailable > r.MaxUnavailable {
		return fmt.Errorf("%d devices were down at a time during the rollout, %d may be", r.MostUnavailable, r.MaxUnavailable)
	}
	return nil
}

func (r benchFleetResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, `%d devices on %d connections, %d deployments
state writes      %d in %.1f s, %.0f a second, p99 %.1f ms
errors            %d %s
aggregates right  %d of %d
change to hint    p50 %.1f ms, p99 %.1f ms of %d, %d missed
server resident   %.0f MB
processors        %.2f for the server, %.2f for playing the devices, of %d
`, r.Devices, r.Connections, r.Deployments, r.Writes, r.Seconds, r.WritesPerSecond, r.WriteP99Millis, r.Errors, r.FirstError,
		r.AggregatesRight, r.Aggregates, r.P50Millis, r.P99Millis, r.Hints, r.HintsMissed, float64(r.ServerRSSBytes)/1e6,
		r.ServerCPUSeconds/r.Seconds, r.OwnCPUSeconds/r.Seconds, runtime.NumCPU())
	if err == nil && r.Rollout != nil {
		_, err = fmt.Fprintf(w, "rollout           %.1f s in %d batches, %d of at most %d devices down at a time\n",
			r.Rollout.Seconds, r.Rollout.Batches, r.Rollout.MostUnavailable, r.Rollout.MaxUnavailable)
	}
	if err == nil && len(r.Wrong) > 0 {
		_, err = fmt.Fprintf(w, "wrong:\n  %s\n", strings.Join(r.Wrong, "\n  "))
	}
	return err
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// benchProgress draws one line on a terminal, and elsewhere a line a phase.
func benchProgress(f *Factory) func(phase string, done, total int) {
	var last string
	var drawn time.Time
	return func(phase string, done, total int) {
		switch {
		case f.ErrTerminal && (phase != last || done == total || time.Since(drawn) > 100*time.Millisecond):
			if phase != last && last != "" {
				fmt.Fprintln(f.Err)
			}
			fmt.Fprintf(f.Err, "\r%s: %d of %d\x1b[K", phase, done, total)
			drawn = time.Now()
		case !f.ErrTerminal && phase != last:
			fmt.Fprintf(f.Err, "%s …\n", phase)
		}
		last = phase
	}
}
