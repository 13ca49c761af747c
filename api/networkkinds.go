package api

import (
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api/netpolicy"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// networkKind is how one kind of what nodes are told comes from the store.
type networkKind struct {
	name   string // as link.NetworkRef calls it
	follow func(store *state.Store, from *state.Snapshot) networkSource
	refs   func(r state.Reader) iter.Seq[link.NetworkRef]
	// add appends what ref names to resp, and says whether there is such a thing.
	add func(r state.Reader, ref link.NetworkRef, resp *link.NetworkResponse) bool
}

// networkSource takes what has happened to one kind since it was last called.
type networkSource func() ([]networkChange, error)

// networkKinds are all of them.
var networkKinds = []networkKind{
	networkKindOf(link.KindService, serviceDiffers, addService),
	networkKindOf(link.KindEndpointSlice, sliceDiffers, addSlice),
	networkKindOf(link.KindPeer, peerDiffers, addPeer),
	policyKind(),
}

// networkKindOf tells nodes of each object of T that add adds, and again when differs says that it is another one for them.
// Either of old and now may be nil.
func networkKindOf[T object.Object](name string, differs func(old, now T) bool, add func(state.Reader, T, *link.NetworkResponse) bool) networkKind {
	refTo := func(o T) link.NetworkRef {
		return link.NetworkRef{Kind: name, Namespace: o.GetNamespace(), Name: o.GetName()}
	}
	return networkKind{
		name: name,
		follow: func(store *state.Store, from *state.Snapshot) networkSource {
			return sourceOf(state.Changes[T](store, from.Version), func(c state.Change[T]) []link.NetworkRef {
				switch {
				case !differs(c.Old, c.New):
					return nil
				case object.Object(c.New) == object.Object(*new(T)):
					return []link.NetworkRef{refTo(c.Old)}
				}
				return []link.NetworkRef{refTo(c.New)}
			})
		},
		refs: func(r state.Reader) iter.Seq[link.NetworkRef] {
			return func(yield func(link.NetworkRef) bool) {
				for o := range state.List[T](r, "") {
					if !yield(refTo(o)) {
						return
					}
				}
			}
		},
		add: func(r state.Reader, ref link.NetworkRef, resp *link.NetworkResponse) bool {
			o, ok := state.Get[T](r, state.Key{Namespace: ref.Namespace, Name: ref.Name})
			return ok && add(r, o, resp)
		},
	}
}

// sourceOf takes from a feed what its changes affect.
func sourceOf[T object.Object](feed *state.Feed[T], affected func(state.Change[T]) []link.NetworkRef) networkSource {
	buf := make([]state.Change[T], watchBatch)
	return func() (changes []networkChange, err error) {
		for {
			n, err := feed.Poll(buf)
			if n == 0 || err != nil {
				return changes, err
			}
			for _, c := range buf[:n] {
				for _, ref := range affected(c) {
					changes = append(changes, networkChange{c.Version, ref})
				}
			}
			clear(buf[:n])
		}
	}
}

// policyKind tells nodes of NetworkPolicies as they are resolved, and again when a Pod or a Namespace changes what one means.
func policyKind() networkKind {
	kind := networkKindOf(link.KindPolicy, nil, addPolicy)
	kind.follow = func(store *state.Store, from *state.Snapshot) networkSource {
		index := netpolicy.NewIndex(from)
		sources := []networkSource{
			sourceOf(state.Changes[*networkingv1.NetworkPolicy](store, from.Version), policies(index.Policy)),
			sourceOf(state.Changes[*corev1.Namespace](store, from.Version), policies(index.Namespace)),
			sourceOf(state.Changes[*corev1.Pod](store, from.Version), policies(index.Pod)),
		}
		return func() (all []networkChange, err error) {
			for _, source := range sources {
				changes, err := source()
				if err != nil {
					return nil, err
				}
				all = append(all, changes...)
			}
			return all, nil
		}
	}
	return kind
}

// policies names the policies that index says a change concerns.
func policies[T object.Object](index func(old, now T) []state.Key) func(state.Change[T]) []link.NetworkRef {
	return func(c state.Change[T]) []link.NetworkRef {
		var refs []link.NetworkRef
		for _, key := range index(c.Old, c.New) {
			refs = append(refs, link.NetworkRef{Kind: link.KindPolicy, Namespace: key.Namespace, Name: key.Name})
		}
		return refs
	}
}

func addPolicy(r state.Reader, p *networkingv1.NetworkPolicy, resp *link.NetworkResponse) bool {
	resp.Policies = append(resp.Policies, netpolicy.Resolve(r, p))
	return true
}

func kindNamed(name string) networkKind {
	return networkKinds[slices.IndexFunc(networkKinds, func(k networkKind) bool { return k.name == name })]
}

// serviceDiffers passes over changes of a Service's metadata and status: its generation counts those of its spec.
func serviceDiffers(old, now *corev1.Service) bool {
	return old == nil || now == nil || old.UID != now.UID || old.Generation != now.Generation
}

func addService(_ state.Reader, svc *corev1.Service, resp *link.NetworkResponse) bool {
	resp.Services = append(resp.Services, corev1.Service{ObjectMeta: leanMeta(&svc.ObjectMeta, nil), Spec: svc.Spec})
	return true
}

func sliceDiffers(_, _ *discoveryv1.EndpointSlice) bool { return true }

func addSlice(_ state.Reader, s *discoveryv1.EndpointSlice, resp *link.NetworkResponse) bool {
	labels := map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	resp.EndpointSlices = append(resp.EndpointSlices, discoveryv1.EndpointSlice{
		ObjectMeta: leanMeta(&s.ObjectMeta, labels), AddressType: s.AddressType, Ports: s.Ports, Endpoints: s.Endpoints,
	})
	return true
}

// leanMeta leaves out what no node needs.
func leanMeta(m *metav1.ObjectMeta, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, Labels: labels}
}

// peerDiffers passes over what most changes of a Node are about: its vitals.
func peerDiffers(old, now *corev1.Node) bool {
	before, _ := peerOf(old)
	after, _ := peerOf(now)
	return before != after
}

func addPeer(_ state.Reader, node *corev1.Node, resp *link.NetworkResponse) bool {
	peer, ok := peerOf(node)
	if ok {
		resp.Peers = append(resp.Peers, peer)
	}
	return ok
}

// peerOf is how a node's Pods are reached; ok is false as long as that is not known.
func peerOf(node *corev1.Node) (peer link.Peer, ok bool) {
	if node == nil || node.Spec.PodCIDR == "" {
		return link.Peer{}, false
	}
	i := slices.IndexFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP })
	if i < 0 {
		return link.Peer{}, false
	}
	return link.Peer{Name: node.Name, PodCIDR: node.Spec.PodCIDR, Address: node.Status.Addresses[i].Address}, true
}
