package api

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Groups say what their members may do; who is in none of them may do nothing. A node's name is its node's.
const (
	GroupAdmins  = "mainstay:admins"  // read everything
	GroupViewers = "mainstay:viewers" // read everything
	GroupServers = "mainstay:servers" // what servers ask each other, and what others asked them; nothing else
	GroupNodes   = "mainstay:nodes"   // the endpoints of node/link, for the node of that name; nothing else
)

// Identity is who asks: the subject of a client certificate, its CommonName and Organization.
type Identity struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	// Machine is which machine of a node's name it is; see object.MachineAnnotation.
	Machine string `json:"machine"`
}

func (id Identity) in(group string) bool { return slices.Contains(id.Groups, group) }

// identify says who asks. Only certificates that the TLS layer has verified count.
func identify(r *http.Request) (Identity, bool) {
	if id, ok := passed(r); ok {
		return id, id.Name != ""
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return Identity{}, false
	}
	leaf := r.TLS.VerifiedChains[0][0]
	return Identity{Name: leaf.Subject.CommonName, Groups: leaf.Subject.Organization, Machine: machineOf(leaf)}, true
}

// machineOf says which machine a certificate is of. One that was signed before certificates said so is of who has its key; what
// replaces it says the same.
func machineOf(leaf *x509.Certificate) string {
	if leaf.Subject.SerialNumber != "" {
		return leaf.Subject.SerialNumber
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return "key-" + hex.EncodeToString(sum[:10])
}

// reader lets those through who may read.
func reader(id Identity) error {
	if id.in(GroupAdmins) || id.in(GroupViewers) {
		return nil
	}
	if id.in(GroupNodes) {
		return forbidden("node " + id.Name + " may use the endpoints under /mainstay/v1/node/ only")
	}
	return forbidden(id.Name + " is in none of the groups " + GroupAdmins + " and " + GroupViewers)
}

func forbidden(why string) error {
	err := apierrors.NewForbidden(schema.GroupResource{}, "", nil)
	err.ErrStatus.Message = "forbidden: " + why
	return err
}
