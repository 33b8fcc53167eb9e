package dashboard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/sergi/go-diff/diffmatchpatch"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// diffScores gives the lines of two scores in YAML. Values of environment
// variables are often secret: a mark takes their place that tells only
// whether two are the same, and is of no use outside this process.
func (d *Dashboard) diffScores(from, to *v1alpha1.Score) []view.DiffLine {
	before, after := d.scoreText(from), d.scoreText(to)
	if before == after {
		return nil
	}
	dmp := diffmatchpatch.New()
	a, b, lines := dmp.DiffLinesToChars(before, after)
	var out []view.DiffLine
	for _, piece := range dmp.DiffCharsToLines(dmp.DiffMain(a, b, false), lines) {
		sign := " "
		switch piece.Type {
		case diffmatchpatch.DiffInsert:
			sign = "+"
		case diffmatchpatch.DiffDelete:
			sign = "-"
		}
		for line := range strings.Lines(piece.Text) {
			out = append(out, view.DiffLine{Sign: sign, Text: strings.TrimSuffix(line, "\n")})
		}
	}
	return out
}

func (d *Dashboard) scoreText(s *v1alpha1.Score) string {
	hidden := s.DeepCopy()
	for i := range hidden.Data.Services {
		env := hidden.Data.Services[i].Env
		for j := range env {
			if env[j].Value == "" {
				continue // empty, or a reference, which tells nothing
			}
			mark := hmac.New(sha256.New, d.marks)
			mark.Write([]byte(env[j].Name + "\x00" + env[j].Value))
			env[j].Value = "hidden " + hex.EncodeToString(mark.Sum(nil)[:4])
		}
	}
	text, err := yaml.Marshal(hidden)
	if err != nil {
		return "" // it was decoded from JSON
	}
	return string(text)
}
