package kubeapi

import (
	"runtime/debug"
	"strings"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
)

// releasedVersion reports the Kubernetes release that is built in. Upstream
// expects its build to stamp the version into the binary and says
// v0.0.0-master otherwise, which kubectl refuses; the module version in our
// build information says the same and can not be forgotten.
type releasedVersion struct {
	compatibility.EffectiveVersion
	release string
}

func released(v compatibility.EffectiveVersion) compatibility.EffectiveVersion {
	release := Version()
	if release == "" {
		return v
	}
	return &releasedVersion{EffectiveVersion: v, release: release}
}

func (v *releasedVersion) Info() *version.Info {
	info := v.EffectiveVersion.Info()
	if info != nil && !strings.HasPrefix(info.GitVersion, v.release) {
		info.GitVersion = v.release
	}
	return info
}

// Version is the Kubernetes release built in, such as v1.37.2; empty when this
// binary carries no build information.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == "k8s.io/kubernetes" {
			return dep.Version
		}
	}
	return ""
}
