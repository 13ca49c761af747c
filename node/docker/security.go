package docker

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// seccompDir is where localhostProfile is looked up, as kubelet does.
const seccompDir = "/var/lib/kubelet/seccomp"

// secure adds what the security contexts of Pod and container say.
func secure(host *container.HostConfig, cfg runtime.ContainerConfig) error {
	pod, own := cfg.Pod.Spec.SecurityContext, cfg.Container.SecurityContext
	if pod != nil {
		for _, group := range pod.SupplementalGroups {
			host.GroupAdd = append(host.GroupAdd, strconv.FormatInt(group, 10))
		}
		if pod.FSGroup != nil {
			host.GroupAdd = append(host.GroupAdd, strconv.FormatInt(*pod.FSGroup, 10))
		}
	} else {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	host.Privileged = isTrue(own.Privileged)
	host.ReadonlyRootfs = isTrue(own.ReadOnlyRootFilesystem)
	if own.Capabilities != nil {
		host.CapAdd, host.CapDrop = capabilities(own.Capabilities.Add), capabilities(own.Capabilities.Drop)
	}
	if own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation {
		host.SecurityOpt = append(host.SecurityOpt, "no-new-privileges")
	}
	if own.ProcMount != nil && *own.ProcMount == corev1.UnmaskedProcMount {
		host.MaskedPaths, host.ReadonlyPaths = []string{}, []string{}
	}
	host.SecurityOpt = append(host.SecurityOpt, selinux(firstOf(own.SELinuxOptions, pod.SELinuxOptions))...)
	host.SecurityOpt = append(host.SecurityOpt, appArmor(firstOf(own.AppArmorProfile, pod.AppArmorProfile))...)
	profile, err := seccomp(firstOf(own.SeccompProfile, pod.SeccompProfile))
	host.SecurityOpt = append(host.SecurityOpt, profile...)
	return err
}

func isTrue(b *bool) bool { return b != nil && *b }

func capabilities(list []corev1.Capability) []string {
	var names []string
	for _, c := range list {
		names = append(names, string(c))
	}
	return names
}

func selinux(o *corev1.SELinuxOptions) []string {
	if o == nil {
		return nil
	}
	var options []string
	for _, part := range [][2]string{{"user", o.User}, {"role", o.Role}, {"type", o.Type}, {"level", o.Level}} {
		if part[1] != "" {
			options = append(options, "label="+part[0]+":"+part[1])
		}
	}
	return options
}

func appArmor(p *corev1.AppArmorProfile) []string {
	switch {
	case p == nil || p.Type == corev1.AppArmorProfileTypeRuntimeDefault:
		return nil
	case p.Type == corev1.AppArmorProfileTypeUnconfined:
		return []string{"apparmor=unconfined"}
	case p.LocalhostProfile != nil:
		return []string{"apparmor=" + *p.LocalhostProfile}
	}
	return nil
}

// seccomp returns the engine's option. No profile means the engine's default one: stricter than Kubernetes', which has none.
func seccomp(p *corev1.SeccompProfile) ([]string, error) {
	switch {
	case p == nil || p.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return nil, nil
	case p.Type == corev1.SeccompProfileTypeUnconfined:
		return []string{"seccomp=unconfined"}, nil
	case p.LocalhostProfile == nil || !filepath.IsLocal(*p.LocalhostProfile):
		return nil, fmt.Errorf("seccompProfile: localhostProfile must name a file below %s", seccompDir)
	}
	profile, err := os.ReadFile(filepath.Join(seccompDir, *p.LocalhostProfile))
	if err != nil {
		return nil, fmt.Errorf("seccompProfile: %w", err)
	}
	return []string{"seccomp=" + string(profile)}, nil
}

// user returns whom the container runs as: uid or uid:gid, "" for what the image says. A container that must not run as
// root and would is an error.
func (r *Runtime) user(ctx context.Context, cfg runtime.ContainerConfig) (string, error) {
	pod, own := cfg.Pod.Spec.SecurityContext, cfg.Container.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	uid, gid := firstOf(own.RunAsUser, pod.RunAsUser), firstOf(own.RunAsGroup, pod.RunAsGroup)
	nonRoot := isTrue(firstOf(own.RunAsNonRoot, pod.RunAsNonRoot))
	user := ""
	switch {
	case uid != nil:
		user = strconv.FormatInt(*uid, 10)
	case gid != nil || nonRoot:
		image, err := r.inspectImage(ctx, cfg.ImageID)
		if err != nil {
			return "", err
		}
		if image.Config != nil {
			user = image.Config.User
		}
	}
	if nonRoot {
		if err := refuseRoot(user, cfg.Container.Image); err != nil {
			return "", err
		}
	}
	if gid != nil {
		name, _, _ := strings.Cut(user, ":")
		user = cmp.Or(name, "0") + ":" + strconv.FormatInt(*gid, 10)
	}
	return user, nil
}

func refuseRoot(user, image string) error {
	name, _, _ := strings.Cut(user, ":")
	if name == "" || name == "0" || name == "root" {
		return fmt.Errorf("it has runAsNonRoot and would run as root: set runAsUser, or USER in image %s", image)
	}
	if _, err := strconv.ParseUint(name, 10, 32); err != nil {
		return fmt.Errorf("it has runAsNonRoot and image %s names its user %q, which may be root: set runAsUser", image, name)
	}
	return nil
}
