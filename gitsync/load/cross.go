package load

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
)

// checkAll finds what is wrong between objects, but for what is missing.
func checkAll(all []located) *cross {
	c := &cross{byIdentity: make(map[identity]located, len(all)), owners: make(map[string]map[string][]located)}
	if len(all) > maxObjects {
		c.problems = append(c.problems, all[maxObjects].problem(all[maxObjects].at, "", "the tree declares more than %d objects", maxObjects))
	}
	for _, d := range all {
		c.duplicate(d)
		c.clusterPlace(d)
	}
	c.claims(all)
	c.ownership(all)
	return c
}

// checkMissing finds what all need and nobody declares. Do not ask if some of the tree could not be read: it may stand there.
func (c *cross) checkMissing(all []located) {
	for _, d := range all {
		c.namespace(d)
		c.references(d)
	}
}

type cross struct {
	byIdentity map[identity]located
	owners     map[string]map[string][]located // by namespace and by each key=value of the template's labels
	cluster    *located
	problems   []object.Problem
}

func (c *cross) add(p object.Problem) { c.problems = append(c.problems, p) }

func (c *cross) duplicate(d located) {
	id := d.id
	if id.name == "" {
		return // validation has said so
	}
	if first, ok := c.byIdentity[id]; ok {
		c.add(d.problem(d.at, "", "is declared already at %s", first.place()))
		return
	}
	c.byIdentity[id] = d
}

// clusterPlace keeps the Cluster in one place, where people look for it.
func (c *cross) clusterPlace(d located) {
	if !d.Kind.Singleton {
		return
	}
	if d.file != clusterFile {
		c.add(d.problem(d.at, "", "a Cluster may only stand in %s at the root of --path", clusterFile))
		return
	}
	if c.cluster == nil {
		c.cluster = &d
	} else if c.cluster.id != d.id {
		c.add(d.problem(d.at, "", "is a second Cluster; the first is declared at %s", c.cluster.place()))
	}
}

func (c *cross) namespace(d located) {
	name := d.id.namespace
	if !d.Kind.Namespaced || object.IsOwnNamespace(name) {
		return
	}
	if _, ok := c.byIdentity[identity{kind: "Namespace", name: name}]; !ok {
		c.add(d.problem(d.facts.namespace, "metadata.namespace", "namespace %q is not declared in the repository: add a Namespace of this name", object.Shorten(name)))
	}
}

func (c *cross) references(d located) {
	for _, ref := range d.facts.refs {
		id := identity{kind: ref.kind, namespace: d.id.namespace, name: ref.name}
		target, ok := c.byIdentity[id]
		switch {
		case !ok:
			c.add(d.problem(ref.at, ref.field, "%s %s is not declared in the repository: add it, or set optional: true", ref.kind, id.shown()))
		case ref.key != "" && !hasKey(target.Object.Object, ref.key):
			c.add(d.problem(ref.at, ref.field, "%s %s (%s) has no key %q in its data", ref.kind, id.shown(), target.place(), object.Shorten(ref.key)))
		}
	}
}

func hasKey(obj object.Object, key string) bool {
	switch o := obj.(type) {
	case *corev1.ConfigMap:
		_, ok := o.Data[key]
		return ok
	case *corev1.Secret:
		_, ok := o.Data[key]
		return ok
	}
	return false
}

// claims finds Services that want the same node port or address, and addresses that are not the cluster's to give.
func (c *cross) claims(all []located) {
	services, pods := ranges(all)
	taken := make(map[string]located)
	for _, d := range all {
		for _, claim := range d.facts.claims {
			if first, ok := taken[claim.what]; ok {
				c.add(d.problem(claim.at, claim.field, "%s is taken already by %s at %s", claim.what, first.title(), first.place()))
				continue
			}
			taken[claim.what] = d
			if ip, err := netip.ParseAddr(claim.outside); err == nil && (services.Contains(ip) || pods.Contains(ip)) {
				c.add(d.problem(claim.at, claim.field, "%s is one of the cluster's own addresses (podCIDR %s, serviceCIDR %s): name one that leads to a node from outside", ip, pods, services))
			}
		}
		if svc, ok := d.Object.Object.(*corev1.Service); ok {
			ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
			if err == nil && services.IsValid() && !services.Contains(ip) {
				c.add(d.problem(d.facts.claims[0].at, "spec.clusterIP", "%s is not within the cluster's serviceCIDR %s", ip, services))
			}
			if err == nil && services.IsValid() && ip == services.Masked().Addr().Next() {
				c.add(d.problem(d.facts.claims[0].at, "spec.clusterIP", "%s is the first address of the cluster's serviceCIDR, which leads to its API: name another", ip))
			}
			if err == nil && services.IsValid() && ip == object.NameServiceAddress(services) {
				c.add(d.problem(d.facts.claims[0].at, "spec.clusterIP", "%s is the tenth address of the cluster's serviceCIDR, at which it answers names: name another", ip))
			}
		}
	}
}

// ranges are the cluster's addresses of Services and of Pods; zero where they are not valid, as validation has said.
func ranges(all []located) (services, pods netip.Prefix) {
	spec := object.ClusterSpec{ServiceCIDR: kube.DefaultServiceCIDR, PodCIDR: kube.DefaultPodCIDR}
	for _, d := range all {
		if c, ok := d.Object.Object.(*object.Cluster); ok {
			spec = c.Spec
		}
	}
	services, _ = netip.ParsePrefix(spec.ServiceCIDR)
	pods, _ = netip.ParsePrefix(spec.PodCIDR)
	return services, pods
}

// ownership finds workloads of a namespace that would fight over each other's Pods: the selector of one matches the template of another.
func (c *cross) ownership(all []located) {
	for _, d := range all {
		if d.facts.owns != nil {
			c.index(d)
		}
	}
	for _, d := range all {
		if d.facts.owns == nil {
			continue
		}
		for _, other := range c.candidates(d) {
			c.overlap(d, other)
		}
	}
}

// anyLabels is where candidates() finds all workloads of a namespace; no label has this key.
const anyLabels = ""

func (c *cross) index(d located) {
	namespace := d.id.namespace
	if c.owners[namespace] == nil {
		c.owners[namespace] = make(map[string][]located)
	}
	byLabel := c.owners[namespace]
	byLabel[anyLabels] = append(byLabel[anyLabels], d)
	for _, label := range d.facts.owns.has {
		byLabel[label] = append(byLabel[label], d)
	}
}

// candidates are the workloads whose Pods d might match: those that share the rarest of the labels it wants.
func (c *cross) candidates(d located) []located {
	byLabel := c.owners[d.id.namespace]
	best := byLabel[anyLabels]
	for _, label := range d.facts.owns.wants {
		if list := byLabel[label]; len(list) < len(best) {
			best = list
		}
	}
	return best
}

// overlap reports a pair once, at the one that comes later, where each selects the other's Pods.
func (c *cross) overlap(d, other located) {
	if d.id == other.id || !d.facts.owns.selector.Matches(other.facts.owns.template) {
		return
	}
	if other.facts.owns.selector.Matches(d.facts.owns.template) && d.before(other) {
		return
	}
	c.add(d.problem(d.facts.owns.at, "spec.selector", "also selects the Pods of %s at %s: give each its own labels", other.title(), other.place()))
}
