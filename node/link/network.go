package link

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PathNetwork is the long poll for the cluster's network: the same for every node, so servers encode it once.
const PathNetwork = "/mainstay/v1/node/network"

// NetworkRequest asks how the cluster's network differs from what was last answered.
type NetworkRequest struct {
	Node  string          `json:"node"`
	Store string          `json:"store"` // as last answered; empty: nothing is known
	After uint64          `json:"after"` // Version as last answered
	Wait  metav1.Duration `json:"wait"`
}

// NetworkResponse is that difference: objects new or changed, and those that are gone. Nothing in it is secret.
type NetworkResponse struct {
	Store   string `json:"store"`
	Version uint64 `json:"version"`
	Ranges  Ranges `json:"ranges"`
	// Whole: this is everything there is; what the agent has beside it is gone.
	Whole          bool                        `json:"whole,omitempty"`
	Peers          []Peer                      `json:"peers,omitempty"`
	Services       []corev1.Service            `json:"services,omitempty"`
	EndpointSlices []discoveryv1.EndpointSlice `json:"endpointSlices,omitempty"`
	Policies       []Policy                    `json:"policies,omitempty"`
	Gone           []NetworkRef                `json:"gone,omitempty"`
}

// Ranges are the cluster's own addresses.
type Ranges struct {
	Pods     string `json:"pods"`     // of all nodes, as a prefix
	Services string `json:"services"` // as a prefix
}

// Kinds of a NetworkRef.
const (
	KindPeer          = "Peer"
	KindService       = "Service"
	KindEndpointSlice = "EndpointSlice"
	KindPolicy        = "Policy"
)

// NetworkRef names something of a Network that is no more.
type NetworkRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Peer is a node as others reach its Pods. The asking node is among them.
type Peer struct {
	Name    string `json:"name"`
	PodCIDR string `json:"podCIDR"`
	Address string `json:"address"` // the node's InternalIP
}

// Policy is a NetworkPolicy with every selector resolved to addresses of Pods. A Pod that no Policy restricts in a
// direction is open in it; a restricted one is open to what any of its Policies lets through (KEP-2091 has the semantics).
type Policy struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Pods      []string `json:"pods,omitempty"` // addresses of the Pods it is about, sorted
	// Ingress and Egress are what is let through; nil: the direction is not restricted, empty: nothing is. They never point to
	// a nil slice, which would be read as no restriction.
	Ingress *[]PolicyRule `json:"ingress,omitempty"`
	Egress  *[]PolicyRule `json:"egress,omitempty"`
}

// PolicyRule lets through what matches one of its peers and one of its ports.
type PolicyRule struct {
	Anyone    bool          `json:"anyone,omitempty"`    // the other side does not matter
	EveryPod  bool          `json:"everyPod,omitempty"`  // every Pod of the cluster: what is in a Peer's PodCIDR and not the node's own there
	Addresses []string      `json:"addresses,omitempty"` // of Pods on the other side, sorted
	Blocks    []PolicyBlock `json:"blocks,omitempty"`
	Ports     []PolicyPort  `json:"ports,omitempty"` // none: every port and protocol
	// NoPort: the rule names ports and none of them exists, so nothing matches.
	NoPort bool `json:"noPort,omitempty"`
}

// PolicyBlock is a range of addresses without some of its parts.
type PolicyBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// PolicyPort is a range of ports at the connection's destination.
type PolicyPort struct {
	Protocol corev1.Protocol `json:"protocol"`
	First    int32           `json:"first,omitempty"` // 0: every port of the protocol
	Last     int32           `json:"last,omitempty"`  // at least First
	// Pods are the only destinations at which this port counts, for a named port is another number elsewhere. Empty: any.
	Pods []string `json:"pods,omitempty"`
}

// Network is all that an agent knows of the cluster's network. Its owner alone changes it; the objects in it are never changed.
type Network struct {
	Ranges   Ranges
	Peers    map[string]Peer
	Services map[types.NamespacedName]*corev1.Service
	// Slices are the EndpointSlices by the Service they belong to, then by their own name.
	Slices   map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice
	Policies map[types.NamespacedName]*Policy

	home map[types.NamespacedName]types.NamespacedName // EndpointSlice → Service, as PutSlice was told
}

// NetworkChange says what of a Network has changed. The zero value: nothing has, look whether what was made of it still stands.
type NetworkChange struct {
	Whole    bool // everything may have
	Peers    bool
	Services []types.NamespacedName // those that themselves, or whose EndpointSlices, came, changed or went
	Policies bool
}

// Network waits up to r.Wait for a difference between what was answered before and what is.
func (c *Client) Network(ctx context.Context, r NetworkRequest) (NetworkResponse, error) {
	return call[NetworkResponse](ctx, c, PathNetwork, r, r.Wait.Duration+requestTimeout)
}

// NewNetwork returns a Network in which there is nothing.
func NewNetwork() *Network {
	return &Network{
		Peers: map[string]Peer{}, Services: map[types.NamespacedName]*corev1.Service{},
		Slices: map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice{}, Policies: map[types.NamespacedName]*Policy{},
		home: map[types.NamespacedName]types.NamespacedName{},
	}
}

// EndpointSlicesOf returns a Service's EndpointSlices in the order of their names.
func (n *Network) EndpointSlicesOf(service types.NamespacedName) []*discoveryv1.EndpointSlice {
	byName := n.Slices[service]
	out := make([]*discoveryv1.EndpointSlice, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}
