package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/mount"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	volumesDir     = "volumes"
	subPathsDir    = "subpaths"
	terminationDir = "termination"
	defaultMessage = "/dev/termination-log"
)

// mountEscapes are what the mount table writes for characters that would break its lines.
var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// prepareMounts makes what the container mounts, as far as it does not exist, and returns how to mount it.
func (r *Runtime) prepareMounts(cfg runtime.ContainerConfig) ([]mount.Mount, error) {
	dir, err := r.podDir(string(cfg.Pod.UID))
	if err != nil {
		return nil, err
	}
	v := volumes{pod: cfg.Pod, dir: dir}
	var mounts []mount.Mount
	for i, m := range cfg.Container.VolumeMounts {
		prepared, err := v.mount(cfg, i)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", m.Name, err)
		}
		mounts = append(mounts, prepared)
	}
	if !mounted(mounts, hostsPath) && (!cfg.Pod.Spec.HostNetwork || len(cfg.Pod.Spec.HostAliases) > 0) {
		mounts = append(mounts, mount.Mount{Type: mount.TypeBind, Source: filepath.Join(dir, hostsFile), Target: hostsPath})
	}
	if !mounted(mounts, resolvPath) {
		path, err := r.writeResolv(cfg.Pod)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", resolvPath, err)
		}
		if path != "" {
			mounts = append(mounts, mount.Mount{Type: mount.TypeBind, Source: path, Target: resolvPath})
		}
	}
	message, err := v.terminationFile(cfg)
	if err != nil {
		return nil, err
	}
	return append(mounts, message), nil
}

func mounted(mounts []mount.Mount, target string) bool {
	for _, m := range mounts {
		if m.Target == target {
			return true
		}
	}
	return false
}

// volumes makes the volumes of one Pod.
type volumes struct {
	pod *corev1.Pod
	dir string // of the Pod
}

func (v volumes) mount(cfg runtime.ContainerConfig, index int) (mount.Mount, error) {
	m := &cfg.Container.VolumeMounts[index]
	source, err := v.source(m.Name)
	if err != nil {
		return mount.Mount{}, err
	}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		if sub, err = expandSubPath(m.SubPathExpr, cfg.Env); err != nil {
			return mount.Mount{}, subPathError(m, err)
		}
	}
	if sub != "" {
		target := filepath.Join(v.dir, subPathsDir, cfg.Container.Name, fmt.Sprint(index))
		if source, err = bindSubPath(source, sub, target); err != nil {
			return mount.Mount{}, subPathError(m, err)
		}
	}
	out := mount.Mount{Type: mount.TypeBind, Source: source, Target: m.MountPath, ReadOnly: m.ReadOnly}
	if m.MountPropagation != nil {
		out.BindOptions = &mount.BindOptions{Propagation: propagation(*m.MountPropagation)}
	}
	return out, nil
}

// subPathError names a subPath as it is written: what it expands to may hold a Secret's value.
func subPathError(m *corev1.VolumeMount, err error) error {
	if m.SubPathExpr == "" {
		return fmt.Errorf("subPath %q: %w", m.SubPath, err)
	}
	if failed := new(fs.PathError); errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("subPathExpr %q: %w", m.SubPathExpr, err)
}

func propagation(p corev1.MountPropagationMode) mount.Propagation {
	switch p {
	case corev1.MountPropagationBidirectional:
		return mount.PropagationRShared
	case corev1.MountPropagationHostToContainer:
		return mount.PropagationRSlave
	default:
		return mount.PropagationRPrivate
	}
}

// source returns the host's path of a volume.
func (v volumes) source(name string) (string, error) {
	for i := range v.pod.Spec.Volumes {
		volume := &v.pod.Spec.Volumes[i]
		switch {
		case volume.Name != name:
			continue
		case volume.EmptyDir != nil:
			return v.emptyDir(name, volume.EmptyDir)
		case volume.HostPath != nil:
			return hostPath(volume.HostPath)
		default:
			return "", errors.New("only emptyDir and hostPath can be mounted")
		}
	}
	return "", errors.New("the Pod has no volume of that name")
}

// emptyDir makes the directory once, and with medium Memory mounts a tmpfs on it.
func (v volumes) emptyDir(name string, e *corev1.EmptyDirVolumeSource) (string, error) {
	path := filepath.Join(v.dir, volumesDir, name)
	if _, err := os.Stat(path); err == nil && (e.Medium != corev1.StorageMediumMemory || isMountPoint(path)) {
		return path, nil
	}
	if err := os.MkdirAll(path, dirMode); err != nil {
		return "", err
	}
	if e.Medium == corev1.StorageMediumMemory {
		options := "mode=0777"
		if e.SizeLimit != nil && !e.SizeLimit.IsZero() {
			options += fmt.Sprintf(",size=%d", e.SizeLimit.Value())
		}
		if err := syscall.Mount("tmpfs", path, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
			return "", fmt.Errorf("mount tmpfs on %s: %w", path, err)
		}
	}
	if security := v.pod.Spec.SecurityContext; security != nil && security.FSGroup != nil {
		if err := os.Chown(path, -1, int(*security.FSGroup)); err != nil {
			return "", err
		}
		return path, os.Chmod(path, publicDirMode|os.ModeSetgid)
	}
	return path, os.Chmod(path, publicDirMode)
}

// isMountPoint tells whether something is mounted on the directory.
func isMountPoint(path string) bool {
	var own, parent syscall.Stat_t
	return syscall.Stat(path, &own) == nil && syscall.Stat(filepath.Dir(path), &parent) == nil && own.Dev != parent.Dev
}

// hostPath checks that the path is of the type asked for, or makes it where the type says so. Without a type a missing path
// becomes a directory, as other runtimes do it.
func hostPath(h *corev1.HostPathVolumeSource) (string, error) {
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	info, err := os.Stat(h.Path)
	if errors.Is(err, os.ErrNotExist) {
		switch kind {
		case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
			return h.Path, os.MkdirAll(h.Path, 0o755)
		case corev1.HostPathFileOrCreate:
			return h.Path, createFile(h.Path, fileMode)
		}
	}
	if err != nil {
		return "", fmt.Errorf("hostPath: %w", err)
	}
	const deviceMask = os.ModeDevice | os.ModeCharDevice
	mode := info.Mode()
	fits := map[corev1.HostPathType]bool{
		corev1.HostPathUnset: true, corev1.HostPathDirectory: mode.IsDir(), corev1.HostPathDirectoryOrCreate: mode.IsDir(),
		corev1.HostPathFile: mode.IsRegular(), corev1.HostPathFileOrCreate: mode.IsRegular(), corev1.HostPathSocket: mode&os.ModeSocket != 0,
		corev1.HostPathCharDev: mode&deviceMask == deviceMask, corev1.HostPathBlockDev: mode&deviceMask == os.ModeDevice,
	}
	if !fits[kind] {
		return "", fmt.Errorf("hostPath %s is not a %s but has mode %s", h.Path, kind, mode)
	}
	return h.Path, nil
}

// createFile makes an empty file unless it exists.
func createFile(path string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, mode)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(mode), f.Close())
}

// bindSubPath mounts what lies at a path inside a volume on a directory of ours, and returns that. The path is opened below the
// volume's root, so no link that a container put there can lead out of it, neither now nor while the engine mounts it.
func bindSubPath(volume, sub, target string) (string, error) {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open(sub)
	if errors.Is(err, os.ErrNotExist) {
		if err = root.MkdirAll(sub, 0o755); err == nil {
			f, err = root.Open(sub)
		}
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	syscall.Unmount(target, syscall.MNT_DETACH) // an earlier attempt's; its container keeps what it has
	if err := makeTarget(target, info); err != nil {
		return "", err
	}
	if err := syscall.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return "", fmt.Errorf("mount on %s: %w", target, err)
	}
	return target, nil
}

// makeTarget makes the mount point of a directory or a file, whichever source is.
func makeTarget(path string, source os.FileInfo) error {
	if source.IsDir() {
		return os.MkdirAll(path, dirMode)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	return createFile(path, fileMode)
}

// terminationFile makes the file in which an attempt may leave its last words.
func (v volumes) terminationFile(cfg runtime.ContainerConfig) (mount.Mount, error) {
	path := terminationPath(v.dir, cfg.Container.Name, cfg.Attempt)
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return mount.Mount{}, err
	}
	target := cfg.Container.TerminationMessagePath
	if target == "" {
		target = defaultMessage
	}
	return mount.Mount{Type: mount.TypeBind, Source: path, Target: target}, createFile(path, 0o666)
}

func terminationPath(podDir, container string, attempt int) string {
	return filepath.Join(podDir, terminationDir, fmt.Sprintf("%s-%d", container, attempt))
}

// removeFiles unmounts and removes everything of a Pod. It removes nothing while anything is still mounted there: that would
// remove files of the host.
func removeFiles(podDir string) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(podDir)) // as the mount table has it
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(parent, filepath.Base(podDir))
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(points) { // those inside others come later
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	if points, err = mountsBelow(dir); err != nil {
		return err
	}
	if len(points) > 0 {
		return fmt.Errorf("%s is still mounted", points[0])
	}
	return os.RemoveAll(dir)
}

// mountsBelow lists what is mounted below a directory, in the order it was mounted.
func mountsBelow(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		const pointField = 4
		fields := strings.Fields(line)
		if len(fields) <= pointField {
			continue
		}
		if point := mountEscapes.Replace(fields[pointField]); strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points, nil
}

// expandSubPath is a subPathExpr with what the container's environment says. As in Kubernetes, a name that has no value there is an
// error: the path would be one that nobody meant.
func expandSubPath(expr string, env []string) (string, error) {
	var missing []string
	sub := runtime.Expand(expr, func(name string) (string, bool) {
		for _, pair := range env {
			if value, ok := strings.CutPrefix(pair, name+"="); ok && value != "" {
				return value, true
			}
		}
		missing = append(missing, name)
		return "", false
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("missing value for %s: set it in the container's env", strings.Join(missing, ", "))
	}
	return sub, nil
}
