package docker

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// output runs the Pod's first container to its end and returns what it printed.
func (f *fixture) output(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	c := f.run(t, p)
	stream, err := f.Logs(t.Context(), c.ID, runtime.LogOptions{Follow: true})
	check(t, err)
	defer stream.Close()
	out, err := io.ReadAll(stream)
	check(t, err)
	return string(out)
}

// TestContainersGetWhatTheirSpecSays runs one container per row and reads what it finds around it.
func TestContainersGetWhatTheirSpecSays(t *testing.T) {
	f := newFixture(t)
	host := t.TempDir()
	check(t, os.WriteFile(filepath.Join(host, "file"), []byte("from the host"), 0o644))
	check(t, os.Symlink("/", filepath.Join(host, "escape")))
	for name, tc := range map[string]struct {
		script string
		spec   func(p *corev1.PodSpec, c *corev1.Container)
		want   string // of the output; a part of the error if it starts with "error: "
	}{
		"environment":       {script: "echo $NAME $PATH", want: "value /bin\n"},
		"working directory": {script: "pwd", spec: func(_ *corev1.PodSpec, c *corev1.Container) { c.WorkingDir = "/tmp" }, want: "/tmp\n"},
		"host name":         {script: "hostname; grep -c host-name /etc/hosts", want: "host-name\n1\n"},
		"host aliases": {script: "grep db /etc/hosts", spec: func(p *corev1.PodSpec, _ *corev1.Container) {
			p.HostAliases = []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"db", "db.test"}}}
		}, want: "192.0.2.9\tdb\tdb.test\n"},
		"the host's network": {script: "ip -o link show | grep -c mst || true; hostname | grep -c the-hosts-network || true", spec: func(p *corev1.PodSpec, _ *corev1.Container) {
			p.HostNetwork = true
		}, want: "0\n0\n"},
		"name servers": {script: "cat /etc/resolv.conf", spec: func(p *corev1.PodSpec, _ *corev1.Container) {
			p.DNSPolicy = corev1.DNSNone
			p.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.53"}, Searches: []string{"test"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}}}
		}, want: "nameserver 192.0.2.53\nsearch test\noptions ndots:2\n"},
		"user and groups": {script: "id -u; id -g; id -G", spec: func(p *corev1.PodSpec, _ *corev1.Container) {
			p.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To(int64(1000)), RunAsGroup: ptr.To(int64(1001)), FSGroup: ptr.To(int64(1002))}
		}, want: "1000\n1001\n1001 1002\n"},
		"a group alone": {script: "id -u; id -g", spec: func(p *corev1.PodSpec, _ *corev1.Container) {
			p.SecurityContext = &corev1.PodSecurityContext{RunAsGroup: ptr.To(int64(1001))}
		}, want: "0\n1001\n"},
		"runAsNonRoot": {spec: func(p *corev1.PodSpec, _ *corev1.Container) {
			p.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}
		}, want: "error: would run as root"},
		"read-only root": {script: "touch /x 2>&1", spec: func(_ *corev1.PodSpec, c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: ptr.To(true)}
		}, want: "touch: /x: Read-only file system\n"},
		"memory limit": {script: "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max", spec: func(_ *corev1.PodSpec, c *corev1.Container) {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
		}, want: "67108864\n"},
		"a terminal": {script: "test -t 1 && echo yes", spec: func(_ *corev1.PodSpec, c *corev1.Container) { c.TTY = true }, want: "yes\r\n"},
		"emptyDir":   {script: "stat -c %a /v; echo hi >/v/f; cat /v/f", spec: volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeMount{}), want: "777\nhi\n"},
		"emptyDir in memory": {script: "grep -c ' /v tmpfs' /proc/mounts; df -k /v | tail -1 | awk '{print $2}'", spec: volume(
			corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("1Mi"))}}, corev1.VolumeMount{}), want: "1\n1024\n"},
		"hostPath, read only": {script: "cat /v/file; touch /v/x 2>&1", spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}, corev1.VolumeMount{ReadOnly: true}), want: "from the hosttouch: /v/x: Read-only file system\n"},
		"hostPath of the wrong type": {spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host, Type: ptr.To(corev1.HostPathFile)}}, corev1.VolumeMount{}), want: "error: is not a File"},
		"hostPath that is missing": {spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host + "/none", Type: ptr.To(corev1.HostPathDirectory)}}, corev1.VolumeMount{}), want: "error: no such file"},
		"hostPath that is made": {script: "ls /v | wc -l", spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host + "/made/here", Type: ptr.To(corev1.HostPathDirectoryOrCreate)}}, corev1.VolumeMount{}), want: "0\n"},
		"subPath of a file": {script: "cat /v; echo", spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}, corev1.VolumeMount{SubPath: "file"}), want: "from the host\n"},
		"subPath that is made": {script: "touch /v/x && ls /v", spec: volume(
			corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeMount{SubPathExpr: "a/$(NAME)"}), want: "x\n"},
		"subPath that leads out": {spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}, corev1.VolumeMount{SubPath: "escape/etc"}), want: "error: escapes"},
		"subPath with dots": {spec: volume(
			corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}, corev1.VolumeMount{SubPath: "../../etc"}), want: "error: escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod(strings.ReplaceAll(strings.Map(letters, name), " ", "-"), "sh", "-c", tc.script)
			if tc.spec != nil {
				tc.spec(&p.Spec, &p.Spec.Containers[0])
			}
			if wanted, fails := strings.CutPrefix(tc.want, "error: "); fails {
				if err := f.start(t, p, 0); err == nil || !strings.Contains(err.Error(), wanted) {
					t.Errorf("error = %v, want %q", err, wanted)
				}
				return
			}
			if got := f.output(t, p); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func letters(r rune) rune {
	if r == ' ' || r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}

// volume mounts a volume at /v.
func volume(source corev1.VolumeSource, mount corev1.VolumeMount) func(*corev1.PodSpec, *corev1.Container) {
	return func(p *corev1.PodSpec, c *corev1.Container) {
		p.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}}
		mount.Name, mount.MountPath = "v", "/v"
		c.VolumeMounts = []corev1.VolumeMount{mount}
	}
}

func TestTerminationMessages(t *testing.T) {
	f := newFixture(t)
	for name, tc := range map[string]struct {
		script string
		policy corev1.TerminationMessagePolicy
		want   string
	}{
		"file":                 {"echo -n because >/dev/termination-log; exit 1", corev1.TerminationMessageReadFile, "because"},
		"file of a success":    {"echo -n done >/dev/termination-log", corev1.TerminationMessageReadFile, "done"},
		"nothing":              {"echo printed; exit 1", corev1.TerminationMessageReadFile, ""},
		"output":               {"echo printed; exit 1", corev1.TerminationMessageFallbackToLogsOnError, "printed\n"},
		"output, of a success": {"echo printed", corev1.TerminationMessageFallbackToLogsOnError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod("message-"+strings.ReplaceAll(strings.Map(letters, name), " ", "-"), "sh", "-c", tc.script)
			p.Spec.Containers[0].TerminationMessagePolicy = tc.policy
			f.output(t, p)
			if c := f.ended(t, p); c.Message != tc.want {
				t.Errorf("message %q, want %q", c.Message, tc.want)
			}
		})
	}
}

// ended waits for the container to end.
func (f *fixture) ended(t *testing.T, p *corev1.Pod) runtime.Container {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		if c := f.container(t, p); c.State == runtime.Exited {
			return c
		}
	}
	t.Fatal("it did not end")
	return runtime.Container{}
}

func TestContainersOfAPodShareItsVolumesAndNetwork(t *testing.T) {
	f := newFixture(t)
	p := pod("shared", "sh", "-c", "echo hi >/v/f; exec httpd -f -p 80 -h /v")
	volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeMount{})(&p.Spec, &p.Spec.Containers[0])
	second := p.Spec.Containers[0]
	second.Name, second.Command = "second", []string{"sh", "-c", "for i in $(seq 50); do wget -q -O - http://127.0.0.1/f && break; sleep 0.1; done; cat /v/f"}
	f.run(t, p)
	s, err := f.EnsureSandbox(t.Context(), p)
	check(t, err)
	p.Spec.Containers = append(p.Spec.Containers, second)
	check(t, f.StartContainer(t.Context(), s, runtime.ContainerConfig{Pod: p, Container: &second, ImageID: busybox, Command: second.Command}))
	var id string
	for _, c := range f.look(t, f.Runtime, p).Containers {
		if c.Name == "second" {
			id = c.ID
		}
	}
	stream, err := f.Logs(t.Context(), id, runtime.LogOptions{Follow: true})
	check(t, err)
	defer stream.Close()
	out, err := io.ReadAll(stream)
	if err != nil || string(out) != "hi\nhi\n" {
		t.Errorf("the second container read %q (%v)", out, err)
	}
}

func TestMemoryVolumesAreUnmounted(t *testing.T) {
	f := newFixture(t)
	p := pod("tmpfs", "sleep", "600")
	volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}, corev1.VolumeMount{SubPath: "x"})(&p.Spec, &p.Spec.Containers[0])
	f.run(t, p)
	check(t, f.RemovePod(t.Context(), p.UID))
	dir, err := f.podDir(string(p.UID))
	check(t, err)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	check(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Error("something is still mounted")
	}
}
