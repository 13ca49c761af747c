package object

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Roles that a JoinToken may be for.
const (
	RoleServer = "server"
	RoleAgent  = "agent"
)

// JoinToken lets machines join the cluster. It is cluster-scoped, named by the public part of the token, and never leaves the
// servers: nobody reads it through the API, and no repository declares one.
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type JoinToken struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec JoinTokenSpec `json:"spec"`
}

// JoinTokenSpec is what a token is good for. All of it is written with the precondition that nothing changed meanwhile.
// +k8s:deepcopy-gen=true
type JoinTokenSpec struct {
	Role    string      `json:"role"`
	Hash    []byte      `json:"hash"` // of the secret part, salted by the name
	Expires metav1.Time `json:"expires"`
	Once    bool        `json:"once,omitempty"` // good for a single machine
	Revoked bool        `json:"revoked,omitempty"`
	Uses    int32       `json:"uses"` // machines that joined by it
}

// Authority is the cluster's certificate authority, as its servers agree on it. It is cluster-scoped, there is one, and it never
// leaves the servers and their backups: who has it is the cluster.
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Authority struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AuthoritySpec `json:"spec"`
}

// AuthorityName is the name of the one Authority.
const AuthorityName = "cluster"

// AuthoritySpec is the authority as servers keep it on disk, and since when it is rotated.
// +k8s:deepcopy-gen=true
type AuthoritySpec struct {
	Certificates []byte       `json:"certificates"` // PEM
	Key          []byte       `json:"key"`          // PEM
	Rotating     *metav1.Time `json:"rotating,omitempty"`
	// Revoked names the servers that were removed: their certificates are good no more. The end of a rotation empties it, since
	// what they hold is worth nothing then.
	Revoked []string `json:"revoked,omitempty"`
}

// Server is a member of the control plane, as it says of itself, or one that has been let in. It is cluster-scoped and named as
// the server is in the log's membership; no repository declares one. Whoever has none is no member, and is not let in again
// without a token.
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Server struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ServerSpec `json:"spec"`
}

// ServerSpec is where the server is reached.
// +k8s:deepcopy-gen=true
type ServerSpec struct {
	Address string `json:"address"` // host:port, for agents
	// Endpoint is ip:port, for Pods. Empty: Pods do not reach the server.
	Endpoint string `json:"endpoint,omitempty"`
	Version  string `json:"version"` // of Mainstay
	// Level is the newest format level that the server reads; 0: it has not said yet.
	Level int `json:"level,omitempty"`
	// Pending: a token has let it in, and it is no member of the log yet.
	Pending bool `json:"pending,omitempty"`
	// NonVoter: it has everything and decides nothing.
	NonVoter bool `json:"nonVoter,omitempty"`
}
