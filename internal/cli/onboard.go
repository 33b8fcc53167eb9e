package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nationtech/fleetctl/onboard"
)

type onboardOptions struct {
	hostsOptions
	identityOptions
	file               string
	deviceID           string
	labels             []string
	natsURLs           []string
	insecureRegistries []string
	hostEntries        []string
	metricsListen      string
	agentBinary        string
	noWait             bool
	timeout            time.Duration
}

func newOnboardCmd(f *Factory) *cobra.Command {
	o := &onboardOptions{}
	cmd := &cobra.Command{
		Use:   "onboard [USER@]HOST[:PORT]... | --local | -f hosts.yaml",
		Short: "Make bare Linux hosts devices of the fleet, over SSH",
		Long: `Makes bare Linux hosts devices of the fleet. Nothing has to be on a host but sshd
and a way to become root. fleetctl shows what each host is and what will change,
asks, changes just that, and waits until the control plane hears the device.
Running it again changes only what is different by then.

A file of hosts looks like this:

  labels: {env: prod}
  hosts:
    - host: pi@192.0.2.7
      deviceId: pi-1
      labels: {site: lyon}

The device id is registered for the host's machine once you agree. The device
makes a key of its own, whose public half is registered at the issuer: sign in
first, with fleetctl login. Where the server takes pre-shared keys
(fleet-server all --allow-psk, for laboratories) and nobody is signed in, the device
gets one of those; fleetctl enroll never does that.`,
		Example: `  fleetctl onboard pi@192.0.2.7 --label site=lyon
  fleetctl onboard pi@192.0.2.7 --plan
  fleetctl onboard -f hosts.yaml --yes --output json
  sudo fleetctl onboard --local --device-id gateway`,
		Args: cobra.ArbitraryArgs, // judged together with --local and --file
		RunE: func(cmd *cobra.Command, args []string) error {
			o.targets = args
			return runOnboard(cmd.Context(), f, o)
		},
	}
	o.register(cmd.Flags())
	return cmd
}

// register adds the flags that onboard and enroll share.
func (o *onboardOptions) register(flags *pflag.FlagSet) {
	o.hostsOptions.register(flags)
	o.identityOptions.register(flags)
	flags.StringVarP(&o.file, "file", "f", "", "YAML `file` that lists hosts")
	flags.StringVar(&o.deviceID, "device-id", "", "`id` of the device (default: the host's name)")
	flags.StringArrayVar(&o.labels, "label", nil, "label of the device, `KEY=VALUE` as Kubernetes has them; repeatable")
	flags.StringArrayVar(&o.natsURLs, "nats-url", nil, "`URL` at which devices reach NATS, instead of the server's own; repeatable")
	flags.StringArrayVar(&o.insecureRegistries, "insecure-registry", nil, "`HOST[:PORT]` of a registry that is spoken to in plain HTTP; repeatable")
	flags.StringArrayVar(&o.hostEntries, "host-entry", nil, "`NAME=IP` for the host's /etc/hosts; repeatable")
	flags.StringVar(&o.metricsListen, "metrics-listen", "", "where a monitoring system on the device may ask the agent: `address` of loopback such as 127.0.0.1:9464, or the path of a socket (default: nowhere)")
	flags.StringVar(&o.agentBinary, "agent-binary", "", "fleet-agent `file` to install (default: the one that came with fleetctl)")
	flags.BoolVar(&o.noWait, "no-wait", false, "do not wait for the device's first heartbeat")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how `long` to wait for the first heartbeat")
}

func runOnboard(ctx context.Context, f *Factory, o *onboardOptions) error {
	wishes, err := o.wishes(f)
	if err != nil {
		return err
	}
	end, err := o.signInOnce(ctx, f)
	if err != nil {
		return err
	}
	defer end()
	server, err := newFleetServer(f)
	if err != nil {
		return err
	}
	identities, err := o.identities(ctx, f, server)
	if err != nil {
		return err
	}
	run, err := o.connect(ctx, f, targetsOf(wishes))
	if err != nil {
		return err
	}
	defer run.close()

	prepared := make([]*onboard.Prepared, len(run.jobs))
	run.each(ctx, "looking", func(ctx context.Context, j *hostJob) error {
		w := wishes[j.index].Wish
		w.Identities, w.Rotate = identities, o.rotate
		p, err := onboard.Prepare(ctx, j.host, w, server)
		if err != nil {
			return err
		}
		prepared[j.index], j.plan, j.device = p, p.Plan, p.Device.ID
		return nil
	})
	run.refuseDuplicates()
	if goOn, err := run.agree(ctx, &o.hostsOptions, "Make these changes?"); err != nil || !goOn {
		return err
	}

	run.each(ctx, "applying", func(ctx context.Context, j *hostJob) error {
		if err := prepared[j.index].Enrol(ctx, server); err != nil {
			return err
		}
		since := onboard.Mark{}
		if prepared[j.index].Restarts() {
			var err error
			if since, err = server.Mark(ctx, j.device); err != nil {
				return err
			}
		}
		if err := run.apply(ctx, j); err != nil || o.noWait {
			return err
		}
		run.progress.set(j, "waiting for the first heartbeat")
		return onboard.Await(ctx, j.host, server, j.device, since, o.timeout)
	})
	return run.finish(ctx, func(j *hostJob) error { return writeRecap(ctx, f, &prepared[j.index].Device, j, !o.noWait) })
}
