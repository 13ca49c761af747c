package docker

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	hostsFile     = "etc-hosts"
	hostsPath     = "/etc/hosts"
	dirMode       = 0o750
	fileMode      = 0o644
	publicDirMode = 0o777
)

// writeHosts writes the Pod's /etc/hosts, which Docker cannot: it does not know the Pod's address.
func (r *Runtime) writeHosts(p *corev1.Pod, ip netip.Addr) error {
	dir, err := r.podDir(string(p.UID))
	if err != nil {
		return err
	}
	content, err := hosts(p, ip)
	if err != nil {
		return err
	}
	if err := writeInPlace(filepath.Join(dir, hostsFile), content); err != nil {
		return fmt.Errorf("write hosts of pod %s: %w", podName(p), err)
	}
	return nil
}

// writeInPlace brings a file's content in line: running containers have this very file mounted, so it is never replaced.
func writeInPlace(path string, content []byte) error {
	if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	return os.WriteFile(path, content, fileMode)
}

func hosts(p *corev1.Pod, ip netip.Addr) ([]byte, error) {
	var b bytes.Buffer
	if p.Spec.HostNetwork {
		own, err := os.ReadFile(hostsPath)
		if err != nil {
			return nil, err
		}
		b.Write(own)
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		names := hostname(p)
		if domain := hostDomain(p); domain != "" {
			names = names + "." + domain + "\t" + names
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, names)
	}
	for _, alias := range p.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.Bytes(), nil
}
