package docker

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestRemovingAPodUnderALinkedDataDirectoryLeavesTheHostsFiles(t *testing.T) {
	base := t.TempDir()
	host, data, link := filepath.Join(base, "host"), filepath.Join(base, "real data"), filepath.Join(base, "link")
	kept := filepath.Join(host, "sub", "kept")
	for _, dir := range []string{filepath.Dir(kept), data} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(kept, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	podDir := filepath.Join(link, "pods", "u")
	target := filepath.Join(podDir, subPathsDir, "main", "0")
	t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	if _, err := bindSubPath(host, "sub", target); err != nil {
		t.Fatal(err)
	}
	if err := removeFiles(podDir); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the host's own file: %v", err)
	}
	if _, err := os.Stat(podDir); !os.IsNotExist(err) {
		t.Errorf("the Pod's directory is still there (%v)", err)
	}
}

func TestSubPathExpanded(t *testing.T) {
	env := []string{"A=a", "B=$(A)", "EMPTY=", "AB=ab"}
	for expr, want := range map[string]struct{ sub, err string }{
		"x/$(A)/$(AB)":        {sub: "x/a/ab"},
		"$(B)":                {sub: "$(A)"},
		"$$(A)":               {sub: "$(A)"},
		"$(A)/$(C)/$(EMPTY)x": {err: "missing value for C, EMPTY: set it in the container's env"},
	} {
		sub, err := expandSubPath(expr, env)
		if sub != want.sub || want.err != "" && (err == nil || err.Error() != want.err) || want.err == "" && err != nil {
			t.Errorf("%s: %q, %v; want %+v", expr, sub, err, want)
		}
	}
}

// Of a Pod whose containers are gone the files are left if its agent was killed just then. They are listed, so that they can be removed, and
// what is mounted there with them.
func TestFilesWithoutContainersAreAPod(t *testing.T) {
	f := newFixture(t)
	p := pod("left", "sleep", "600")
	p.Spec.Volumes = []corev1.Volume{{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "memory", MountPath: "/memory"}}
	f.run(t, p)
	found := f.look(t, f.Runtime, p)
	for _, id := range []string{found.Containers[0].ID, found.Sandbox.ID} {
		f.host.API(t, "DELETE", "/containers/"+id+"?force=1", nil, nil)
	}
	if left := f.look(t, f.Runtime, p); left.Pod == nil || left.Sandbox.ID != "" || len(left.Containers) > 0 {
		t.Fatalf("%+v, want the Pod without anything", left)
	}
	check(t, f.RemovePod(t.Context(), p.UID))
	if left := f.look(t, f.Runtime, p); left.Pod != nil {
		t.Errorf("%+v after it was removed", left)
	}
	dir, err := f.podDir(string(p.UID))
	check(t, err)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want it gone", dir, err)
	}
}
