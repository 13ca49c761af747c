package docker

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// secret stands for a Secret's value.
const secret = "canary-4711"

// P11: a program's name may come from a Secret, and the engine says it when there is no such program.
func TestP11ProgramFromTheEnvironmentIsNotNamed(t *testing.T) {
	f := newFixture(t)
	p := pod("secretive", "/opt/$(SECRET)")
	s, err := f.EnsureSandbox(t.Context(), p)
	check(t, err)
	err = f.StartContainer(t.Context(), s, runtime.ContainerConfig{Pod: p, Container: &p.Spec.Containers[0], Command: []string{"/opt/" + secret}})
	if err == nil || strings.Contains(err.Error(), secret) || !strings.HasSuffix(err.Error(), "not shown: no such file or directory") {
		t.Errorf("error = %v, want why and not what", err)
	}
	for _, r := range []*Runtime{f.Runtime, f.reopen(t)} {
		c := f.look(t, r, p).Containers[0]
		if c.State != runtime.Exited || c.Message != concealedProgram+": no such file or directory" {
			t.Errorf("listed as %s with message %q", c.State, c.Message)
		}
	}
}

func TestProgramExpanded(t *testing.T) {
	for name, tc := range map[string]struct {
		spec          *corev1.Container
		command, args []string
		want          bool
	}{
		"as written":           {&corev1.Container{Command: []string{"sh", "$(A)"}}, []string{"sh", "a"}, nil, false},
		"from the environment": {&corev1.Container{Command: []string{"$(A)"}}, []string{"a"}, nil, true},
		"args as written":      {&corev1.Container{Args: []string{"a"}}, nil, []string{"a"}, false},
		"args expanded":        {&corev1.Container{Args: []string{"$(A)"}}, nil, []string{"a"}, true},
		"args of a command":    {&corev1.Container{Command: []string{"sh"}, Args: []string{"$(A)"}}, []string{"sh"}, []string{"a"}, false},
		"the image's":          {&corev1.Container{}, []string{"entrypoint"}, []string{"cmd"}, false},
		"unknown":              {nil, []string{"a"}, nil, true},
	} {
		if got := programExpanded(tc.spec, tc.command, tc.args); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// P11: a subPathExpr may hold a Secret's value.
func TestP11SubPathsAreNamedAsTheyAreWritten(t *testing.T) {
	p := pod("secretive")
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data", SubPathExpr: "../$(SECRET)"}}
	v := volumes{pod: p, dir: t.TempDir()}
	_, err := v.mount(runtime.ContainerConfig{Pod: p, Container: &p.Spec.Containers[0], Env: []string{"SECRET=" + secret}}, 0)
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), `subPathExpr "../$(SECRET)": path escapes`) {
		t.Errorf("error = %v, want the expression and not what it expands to", err)
	}
}
