package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// deploySpec is what the flags of deploy say of the Deployment itself.
type deploySpec struct {
	name       string
	image      string
	selectors  []string
	devices    []string
	allDevices bool
	container  containerFlags
}

func restartPolicies() []string {
	return []string{string(wire.RestartUnlessStopped), string(wire.RestartAlways), string(wire.RestartOnFailure), string(wire.RestartNo)}
}

// deployment builds the object, or says everything that is wrong at once.
func (s *deploySpec) deployment(namespace string) (*v1alpha1.Deployment, error) {
	var errs []error
	if err := wire.ValidateDeploymentName(s.name); err != nil {
		errs = append(errs, err)
	}
	selector, err := s.selector()
	errs = append(errs, err)
	service, err := s.service()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, usageError(err, "see: fleetctl deploy --help")
	}
	return &v1alpha1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: namespace},
		Spec: v1alpha1.DeploymentSpec{
			TargetSelector: *selector,
			Score:          v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{*service}}},
		},
	}, nil
}

// service builds the one container, which is named like its Deployment, and
// checks it by the rules that the agent will apply.
func (s *deploySpec) service() (*v1alpha1.Service, error) {
	if s.image == "" {
		return nil, errors.New("--image is needed: which container should run")
	}
	out := &v1alpha1.Service{Name: s.name, Image: s.image}
	err := s.container.apply(out)
	return out, errors.Join(err, checkService(out))
}

// checkService applies the rules that the agent will apply, before anything is
// sent.
func checkService(s *v1alpha1.Service) error {
	data, err := json.Marshal(v1alpha1.ScoreData{Services: []v1alpha1.Service{*s}})
	if err != nil {
		return fmt.Errorf("encode service: %w", err)
	}
	_, err = wire.DecodePodmanV0(data)
	return err
}

func parseVolume(s string) (v1alpha1.Volume, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw" {
		return v1alpha1.Volume{}, fmt.Errorf("--volume %q is not HOST:CONTAINER[:ro]", s)
	}
	return v1alpha1.Volume{
		HostPath: v1alpha1.Path(parts[0]), ContainerPath: v1alpha1.Path(parts[1]),
		ReadOnly: len(parts) == 3 && parts[2] == "ro",
	}, nil
}

// selector builds the target selector. Several flags narrow it: all must hold.
func (s *deploySpec) selector() (*v1alpha1.LabelSelector, error) {
	if len(s.selectors) == 0 && len(s.devices) == 0 && !s.allDevices {
		return nil, errors.New("say which devices: --selector k=v, --device ID or --all-devices")
	}
	if s.allDevices && (len(s.selectors) > 0 || len(s.devices) > 0) {
		return nil, errors.New("--all-devices goes with neither --selector nor --device")
	}
	out := &v1alpha1.LabelSelector{}
	var errs []error
	for _, text := range s.selectors {
		errs = append(errs, addSelector(out, text))
	}
	for _, id := range s.devices {
		if err := wire.ValidateDeviceID(id); err != nil {
			errs = append(errs, fmt.Errorf("--device: %w", err))
		}
	}
	switch {
	case s.allDevices:
		out.MatchExpressions = append(out.MatchExpressions, v1alpha1.LabelRequirement{Key: v1alpha1.LabelDeviceID, Operator: string(metav1.LabelSelectorOpExists)})
	case len(s.devices) == 1:
		errs = append(errs, addLabel(out, v1alpha1.LabelDeviceID, s.devices[0]))
	case len(s.devices) > 1:
		out.MatchExpressions = append(out.MatchExpressions, requirement(v1alpha1.LabelDeviceID, metav1.LabelSelectorOpIn, s.devices))
	}
	return out, errors.Join(errs...)
}

// addSelector adds what kubectl's selector syntax says to out.
func addSelector(out *v1alpha1.LabelSelector, text string) error {
	parsed, err := labels.Parse(text)
	if err != nil {
		return fmt.Errorf("--selector %q: %w", text, err)
	}
	requirements, _ := parsed.Requirements()
	if len(requirements) == 0 {
		return fmt.Errorf("--selector %q is empty", text)
	}
	var errs []error
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		slices.Sort(values)
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals:
			errs = append(errs, addLabel(out, r.Key(), values[0]))
		case selection.In:
			out.MatchExpressions = append(out.MatchExpressions, requirement(r.Key(), metav1.LabelSelectorOpIn, values))
		case selection.NotIn, selection.NotEquals:
			out.MatchExpressions = append(out.MatchExpressions, requirement(r.Key(), metav1.LabelSelectorOpNotIn, values))
		case selection.Exists:
			out.MatchExpressions = append(out.MatchExpressions, requirement(r.Key(), metav1.LabelSelectorOpExists, nil))
		case selection.DoesNotExist:
			out.MatchExpressions = append(out.MatchExpressions, requirement(r.Key(), metav1.LabelSelectorOpDoesNotExist, nil))
		default:
			errs = append(errs, fmt.Errorf("--selector %q: %s is not supported; use =, !=, in, notin, exists", text, r.Operator()))
		}
	}
	return errors.Join(errs...)
}

func addLabel(out *v1alpha1.LabelSelector, key, value string) error {
	if have, ok := out.MatchLabels[key]; ok && string(have) != value {
		return fmt.Errorf("no device can have both %s=%s and %s=%s; for either, use --selector '%s in (%s,%s)'", key, have, key, value, key, have, value)
	}
	if out.MatchLabels == nil {
		out.MatchLabels = map[string]v1alpha1.LabelValue{}
	}
	out.MatchLabels[key] = v1alpha1.LabelValue(value)
	return nil
}

func requirement(key string, op metav1.LabelSelectorOperator, values []string) v1alpha1.LabelRequirement {
	r := v1alpha1.LabelRequirement{Key: key, Operator: string(op)}
	for _, v := range values {
		r.Values = append(r.Values, v1alpha1.LabelValue(v))
	}
	return r
}
