package operator

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
)

func TestLibraryLog(t *testing.T) {
	const loud = `level=WARN msg="Warning: both a result and an error" controller=device
level=ERROR msg="Reconciler error" controller=device err=refused
`
	for level, want := range map[slog.Level]string{
		slog.LevelInfo: loud,
		slog.LevelDebug: `level=DEBUG msg="Starting Controller" controller=device
level=DEBUG msg=Reconciling controller=device
` + loud,
	} {
		var got bytes.Buffer
		untimed := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		log := libraryLog(slog.New(slog.NewTextHandler(&got, &slog.HandlerOptions{Level: level, ReplaceAttr: untimed})))
		log = log.WithValues("controller", "device")
		log.Info("Starting Controller")
		log.V(1).Info("Reconciling")
		log.Info("Warning: both a result and an error")
		log.Error(errors.New("refused"), "Reconciler error")
		if got.String() != want {
			t.Errorf("at %s:\n%swant:\n%s", level, got.String(), want)
		}
	}
}
