package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/object"
)

const (
	resolvFile = "resolv.conf"
	resolvPath = "/etc/resolv.conf"
	// What resolvers read at most; Kubernetes' numbers.
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// resolv is what a resolv.conf says.
type resolv struct{ nameservers, searches, options []string }

// parseResolv reads a resolv.conf; of several search lines the last one counts.
func parseResolv(text string) (r resolv) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.nameservers = append(r.nameservers, fields[1])
		case "search":
			r.searches = fields[1:]
		case "options":
			r.options = append(r.options, fields[1:]...)
		}
	}
	return r
}

func (r resolv) String() string {
	var b strings.Builder
	for _, server := range r.nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(r.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.searches, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}

// hasOwnResolv tells whether the Pod's resolv.conf is not just the host's.
func hasOwnResolv(p *corev1.Pod) bool {
	return !p.Spec.HostNetwork || p.Spec.DNSConfig != nil || dnsPolicy(p) != corev1.DNSDefault
}

// dnsPolicy is the policy that applies: on the host's network ClusterFirst means Default, as in Kubernetes.
func dnsPolicy(p *corev1.Pod) corev1.DNSPolicy {
	switch policy := p.Spec.DNSPolicy; {
	case policy == corev1.DNSClusterFirstWithHostNet:
		return corev1.DNSClusterFirst
	case policy == "" || policy == corev1.DNSClusterFirst:
		if p.Spec.HostNetwork {
			return corev1.DNSDefault
		}
		return corev1.DNSClusterFirst
	default:
		return policy
	}
}

// podResolv is a Pod's resolv.conf by its policy, with its dnsConfig on top. cluster is who answers names of the cluster, the node
// itself first.
func podResolv(p *corev1.Pod, cluster []netip.Addr, host resolv) resolv {
	var r resolv
	switch dnsPolicy(p) {
	case corev1.DNSClusterFirst:
		services := "svc." + object.ClusterDomain
		if p.Spec.DNSConfig != nil {
			own := append([]string{cluster[0].String()}, p.Spec.DNSConfig.Nameservers...)
			cluster = cluster[:max(1, min(len(cluster), maxNameservers+1-len(unique(own))))] // what the Pod names comes before the second
		}
		for _, server := range cluster {
			r.nameservers = append(r.nameservers, server.String())
		}
		r.searches = append([]string{p.Namespace + "." + services, services, object.ClusterDomain}, host.searches...)
		r.options = []string{"ndots:5"}
	case corev1.DNSDefault:
		r = resolv{slices.Clone(host.nameservers), slices.Clone(host.searches), slices.Clone(host.options)}
		for i, server := range r.nameservers {
			if address, err := netip.ParseAddr(server); err == nil && address.IsLoopback() && !p.Spec.HostNetwork {
				r.nameservers[i] = cluster[0].String() // the host's loopback is out of the Pod's reach, not of the node's
			}
		}
	}
	if config := p.Spec.DNSConfig; config != nil {
		r.nameservers = append(r.nameservers, config.Nameservers...)
		r.searches = append(r.searches, config.Searches...)
		r.options = mergeOptions(r.options, config.Options)
	}
	return r.limited()
}

// mergeOptions replaces options by others of the same name.
func mergeOptions(options []string, more []corev1.PodDNSConfigOption) []string {
	for _, o := range more {
		options = slices.DeleteFunc(options, func(old string) bool {
			name, _, _ := strings.Cut(old, ":")
			return name == o.Name
		})
		text := o.Name
		if o.Value != nil {
			text += ":" + *o.Value
		}
		options = append(options, text)
	}
	return options
}

// limited leaves out what is there twice and what no resolver would read.
func (r resolv) limited() resolv {
	r.nameservers, r.searches = unique(r.nameservers), unique(r.searches)
	r.nameservers = r.nameservers[:min(len(r.nameservers), maxNameservers)]
	r.searches = r.searches[:min(len(r.searches), maxSearches)]
	for len(strings.Join(r.searches, " ")) > maxSearchChars {
		r.searches = r.searches[:len(r.searches)-1]
	}
	return r
}

// unique keeps the first of equals.
func unique(list []string) (kept []string) {
	for _, s := range list {
		if !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
}

// writeResolv writes the Pod's resolv.conf into its directory and returns its path, "" if the Pod has the host's. Docker's own
// would lack what the engine does not know of.
func (r *Runtime) writeResolv(p *corev1.Pod) (string, error) {
	if !hasOwnResolv(p) {
		return "", nil
	}
	cluster, err := r.nameservers()
	if err != nil {
		return "", err
	}
	host, err := os.ReadFile(resolvPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	dir, err := r.podDir(string(p.UID))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, resolvFile)
	return path, writeInPlace(path, []byte(podResolv(p, cluster, parseResolv(string(host))).String()))
}

// nameservers answer names of the cluster: the node, at its own address in the range of its Pods, and any other while this one
// does not.
func (r *Runtime) nameservers() ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready {
		return nil, runtime.ErrNotConfigured
	}
	servers := []netip.Addr{r.given.PodCIDR.Masked().Addr().Next()}
	if r.given.DNS.IsValid() {
		servers = append(servers, r.given.DNS)
	}
	return servers, nil
}
