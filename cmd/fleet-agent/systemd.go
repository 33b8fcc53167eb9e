package main

import (
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// systemd implements agent.Supervisor by sd_notify(3). Without a
// NOTIFY_SOCKET, as in a shell, it does nothing.
type systemd struct {
	log      *slog.Logger
	interval time.Duration
}

func newSystemd(log *slog.Logger) *systemd {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog is off", "error", err)
	}
	return &systemd{log: log, interval: interval}
}

func (s *systemd) Ready()                          { s.notify(daemon.SdNotifyReady) }
func (s *systemd) Stopping()                       { s.notify(daemon.SdNotifyStopping) }
func (s *systemd) Status(text string)              { s.notify("STATUS=" + text) }
func (s *systemd) Alive()                          { s.notify(daemon.SdNotifyWatchdog) }
func (s *systemd) WatchdogInterval() time.Duration { return s.interval }

func (s *systemd) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Debug("systemd not notified", "error", err)
	}
}
