package link

import "context"

// PathJoin is the one endpoint that asks for no certificate: it gives one, for a token.
const PathJoin = "/mainstay/v1/join"

// PathRenew is where a node has its certificate signed anew.
const PathRenew = "/mainstay/v1/node/renew"

// JoinRequest asks to be taken in as a node, or as a server.
type JoinRequest struct {
	Token   string `json:"token"`
	Node    string `json:"node,omitempty"`
	Request string `json:"request,omitempty"` // PEM of a certificate request; only its key counts
	// Cluster is the one that the machine is a node of; only that one takes it in. Empty: it is none of any.
	Cluster string         `json:"cluster,omitempty"`
	Server  *JoiningServer `json:"server,omitempty"` // nil: it joins as a node
}

// JoiningServer is what a machine says that is to be a server.
type JoiningServer struct {
	Name    string `json:"name"`
	Address string `json:"address"`         // host:port at which agents and the other servers reach it
	Version string `json:"version"`         // of Mainstay
	Level   int    `json:"level,omitempty"` // the newest format level that it reads
}

// Membership is what a machine knows of the cluster that took it in.
type Membership struct {
	Cluster     string   `json:"cluster"`
	Certificate string   `json:"certificate"` // PEM; empty for a server, which makes its own
	Authority   string   `json:"authority"`   // PEM of the authority's certificate
	Servers     []string `json:"servers"`     // host:port of every server
	// What only a server learns: the authority's key, by which it certifies itself and others, and what the cluster follows.
	AuthorityKey string `json:"authorityKey,omitempty"` // PEM
	Repo         string `json:"repo,omitempty"`         // without credentials
	Branch       string `json:"branch,omitempty"`
	Path         string `json:"path,omitempty"`
}

// RenewRequest asks for a new certificate for the same node.
type RenewRequest struct {
	Request string `json:"request,omitempty"` // as in JoinRequest
	// Keeps asks for nothing: it tells the mark of the authority that the node trusts and has its certificate from.
	Keeps string `json:"keeps,omitempty"`
}

// Join asks the servers in turn. The client must be one that sends nothing to servers it has not recognised.
func (c *Client) Join(ctx context.Context, r JoinRequest) (Membership, error) {
	return call[Membership](ctx, c, PathJoin, r, requestTimeout)
}

// Renew returns the certificate for a new key.
func (c *Client) Renew(ctx context.Context, r RenewRequest) (Membership, error) {
	return call[Membership](ctx, c, PathRenew, r, requestTimeout)
}
