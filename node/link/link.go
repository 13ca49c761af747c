// Package link is the protocol between an agent and a server: the types, and the agent's client. It knows neither the
// store nor the runtime. Start at Client.
//
// The agent registers once per process; then it polls for the Pods bound to it and reports what became of them. Everything
// is level-triggered: a lost, repeated or reordered request never does harm.
package link

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Paths of the node endpoints below a server's address. Every request carries the node's client certificate.
const (
	PathRegister = "/mainstay/v1/node/register"
	PathPods     = "/mainstay/v1/node/pods"
	PathReport   = "/mainstay/v1/node/report"
	PathConfig   = "/mainstay/v1/node/config"
	PathEvents   = "/mainstay/v1/node/events"
)

// Registration tells the server which node this is and which Pods already run on it. Server and agent must belong to
// the same cluster: the server answers 409 otherwise.
type Registration struct {
	Cluster string       `json:"cluster"`
	Node    *corev1.Node `json:"node"`    // name, labels, status, and the podCIDR it had last; never taints, which only Git gives
	Address string       `json:"address"` // host:port where the agent serves logs
	Pods    []corev1.Pod `json:"pods"`    // every Pod on the engine, with its present status; adopted if the server does not know the node yet
}

// Registered is the answer. A server that lost the node answers any other request with 404 or 409; the agent then registers again.
type Registered struct {
	PodCIDR string `json:"podCIDR"` // the node's own range
	// ClusterCIDR is the range of all nodes' Pods. Empty: not known, the agent then treats PodCIDR as all there is.
	ClusterCIDR string `json:"clusterCIDR,omitempty"`
	// DNS is where names are answered when the node itself does not. Empty: nowhere.
	DNS     string `json:"dns,omitempty"`
	Adopted int    `json:"adopted"` // how many of the Pods the server took in
	// Store names the store that counts the versions of every answer. Another one than before: register again.
	Store string `json:"store,omitempty"`
	// Version is one in which the node is registered, with all it has: a server that has not come so far must not be polled.
	Version uint64 `json:"version,omitempty"`
	// Servers are all servers' addresses, host:port; see Client.Learn.
	Servers []string `json:"servers,omitempty"`
}

// PodsRequest asks for the Pods of this node. The server answers at once if something differs from Have or Pull, else when it does or after Wait.
// It doubles as the node's heartbeat. An empty resourceVersion in Have is a Pod that the agent knows from the engine alone: it differs.
type PodsRequest struct {
	Node  string               `json:"node"`
	After uint64               `json:"after"`          // the newest store version this agent has seen: time never runs backwards for it
	Have  map[types.UID]string `json:"have"`           // uid → resourceVersion
	Pull  []string             `json:"pull,omitempty"` // as last answered
	Wait  metav1.Duration      `json:"wait"`
}

// PodsResponse is the difference between Have and what the server wants here.
type PodsResponse struct {
	Store   string       `json:"store,omitempty"` // as in Registered
	Version uint64       `json:"version"`
	Pods    []corev1.Pod `json:"pods,omitempty"` // new or changed
	// Gone are uids of Have that must stop: the positive instruction without which an agent stops nothing.
	Gone []types.UID `json:"gone,omitempty"`
	// Pull are all images that the node is to have, sorted, for Pods that are not bound to it yet; see object.PullAnnotation.
	Pull []string `json:"pull,omitempty"`
	// Servers are as in Registered.
	Servers []string `json:"servers,omitempty"`
	// Authority is the mark of the authority that signs certificates and of those that are trusted. Another one than the agent
	// keeps: renew the certificate.
	Authority string `json:"authority,omitempty"`
}

// Report carries the newest statuses, and the Pods that have been removed from the node for good. A successful answer means that all of
// it is durable; otherwise the agent repeats it. What it says of a Pod that the server no longer knows is no error.
type Report struct {
	Node       string                  `json:"node"`
	NodeStatus *corev1.NodeStatus      `json:"nodeStatus,omitempty"` // nil: unchanged; without a capacity: only the conditions in it are
	Statuses   map[types.UID]PodStatus `json:"statuses,omitempty"`
	Removed    []PodRef                `json:"removed,omitempty"`
}

// PodRef names one Pod exactly.
type PodRef struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
}

// PodStatus is the status of one Pod.
type PodStatus struct {
	PodRef
	Status corev1.PodStatus `json:"status"`
}

// ConfigRequest asks for ConfigMaps and Secrets that a Pod bound to the node refers to. The server refuses any other.
type ConfigRequest struct {
	Node string `json:"node"`
	Pod  PodRef `json:"pod"`
}

// ConfigResponse holds what the Pod refers to by env and envFrom. What does not exist is absent.
type ConfigResponse struct {
	ConfigMaps []corev1.ConfigMap `json:"configMaps,omitempty"`
	Secrets    []corev1.Secret    `json:"secrets,omitempty"`
}

// Events carries Events about this node's Pods. An Event whose namespace and name exist already replaces the older one: its count grew.
type Events struct {
	Node   string         `json:"node"`
	Events []corev1.Event `json:"events"`
}
