package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// requestTimeout bounds one attempt at one server; a long poll gets its own Wait on top.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer: 110 Pods with all they may refer to stay far below.
	maxAnswer = 256 << 20
	// maxErrorAnswer bounds what is read of an answer that is an error.
	maxErrorAnswer = 64 << 10
	// pingAfter finds servers that vanished without closing the connection, connectTimeout those to which there is none: the
	// node has to be heard of by another one before it counts as silent.
	pingAfter      = 2 * time.Second
	connectTimeout = 3 * time.Second
	// redrawWithin is the longest that a client stays with a server before it draws one again. After servers were restarted one
	// by one, all clients may be with the first of them; within this time each has its share again. Drawing costs a connection.
	redrawWithin = time.Hour
)

// NodesResource names what the protocol's refusals are about.
var NodesResource = schema.GroupResource{Resource: "nodes"}

// ErrAuthority is a server whose certificate this node has no reason to trust: it is of another cluster, or the cluster's
// authority was rotated while this node was away.
var ErrAuthority = errors.New("the server's certificate is of an authority that this node does not know; if the cluster's authority was rotated " +
	"while the agent was away, make a token on a server (mainstay token create --role agent) and start the agent with --token; containers keep running")

// errNoServers is a mistake in the agent's configuration.
var errNoServers = errors.New("no server address is configured")

// Client speaks to whichever of a cluster's servers answers, and stays with it as long as it does, but draws anew at a random time
// within an hour. Which that is differs from client to client, so that those of a server that died spread over the others, and
// one that is back gets its share. Calls under way stay where they are. It repeats nothing but with the other servers:
// the caller decides when to try again. Safe for concurrent use.
type Client struct {
	seeds []string // base URLs as configured
	http  *http.Client

	mu      sync.Mutex
	servers []string  // base URLs in the order in which they are tried: the seeds, and what was learned; guarded by mu
	stays   bool      // the first of them has answered; guarded by mu
	until   time.Time // when it is left for one that is drawn; guarded by mu
}

// New returns a client for servers given as host:port, spoken to over TLS as config says when a connection is made.
func New(servers []string, config func() *tls.Config) *Client {
	return NewVia(&http.Transport{
		DialTLSContext:      dialWith(config),
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
	}, servers...)
}

// dialWith connects in TLS. Whom to trust may have changed since the last time.
func dialWith(config func() *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		now := config().Clone()
		now.NextProtos = []string{"h2", "http/1.1"}
		ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("%s did not finish the TLS handshake within %s", address, connectTimeout))
		defer cancel()
		conn, err := (&tls.Dialer{Config: now}).DialContext(ctx, network, address)
		if unknown := new(x509.UnknownAuthorityError); errors.As(err, unknown) {
			return nil, fmt.Errorf("%s: %w", address, ErrAuthority)
		}
		return conn, err
	}
}

// NewVia is New for a transport of the caller's choosing, e.g. one that never leaves the process.
func NewVia(transport http.RoundTripper, servers ...string) *Client {
	c := &Client{http: &http.Client{Transport: transport}, seeds: baseURLs(servers)}
	c.servers = shuffled(c.seeds)
	return c
}

func baseURLs(servers []string) (urls []string) {
	for _, server := range servers {
		if !strings.Contains(server, "://") {
			server = "https://" + server
		}
		urls = append(urls, strings.TrimSuffix(server, "/"))
	}
	return urls
}

func shuffled(urls []string) []string {
	urls = slices.Clone(urls)
	rand.Shuffle(len(urls), func(i, j int) { urls[i], urls[j] = urls[j], urls[i] })
	return urls
}

// Learn takes in where the cluster's servers are, as one of them says, and reports whether that was news. The servers the
// client was made with remain, after these: an address may be good from here that no server knows of.
func (c *Client) Learn(servers []string) (news bool) {
	if len(servers) == 0 {
		return false
	}
	all := shuffled(baseURLs(servers))
	for _, seed := range c.seeds {
		if !slices.Contains(all, seed) {
			all = append(all, seed)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Equal(slices.Sorted(slices.Values(c.servers)), slices.Sorted(slices.Values(all))) {
		return false
	}
	if at := slices.Index(all, c.servers[0]); c.stays && at > 0 {
		all = slices.Insert(slices.Delete(all, at, at+1), 0, c.servers[0])
	} else if at < 0 {
		c.stays = false
	}
	c.servers = all
	return true
}

// first is the server to try, and how many there are.
func (c *Client) first() (url string, of int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.servers) == 0 {
		return "", 0
	}
	return c.servers[0], len(c.servers)
}

// answered notes whether a server did. One that did not is tried last from now on.
func (c *Client) answered(url string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[0] != url {
		return // another call has gone on from it already
	}
	if err == nil && !c.stays {
		c.until = time.Now().Add(rand.N(redrawWithin))
	}
	if c.stays = err == nil; !c.stays {
		c.servers = append(slices.Clone(c.servers[1:]), url)
	}
}

// redraw has any of the servers tried first, if it is time for that. The one that has answered comes next.
func (c *Client) redraw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stays || time.Now().Before(c.until) {
		return
	}
	at := rand.IntN(len(c.servers))
	drawn := c.servers[at]
	c.servers = slices.Insert(slices.Delete(slices.Clone(c.servers), at, at+1), 0, drawn)
	c.stays = false
}

// Register tells a server which node this is and what runs on it. apierrors.IsConflict: it belongs to another cluster.
func (c *Client) Register(ctx context.Context, r Registration) (Registered, error) {
	return call[Registered](ctx, c, PathRegister, r, requestTimeout)
}

// Pods waits up to r.Wait for a difference between r.Have and what the server wants on the node.
// apierrors.IsNotFound or IsConflict: the server does not know the node (any more); register again.
func (c *Client) Pods(ctx context.Context, r PodsRequest) (PodsResponse, error) {
	return call[PodsResponse](ctx, c, PathPods, r, r.Wait.Duration+requestTimeout)
}

// Report delivers r; nil means that all of it is durable.
func (c *Client) Report(ctx context.Context, r Report) error {
	_, err := call[struct{}](ctx, c, PathReport, r, requestTimeout)
	return err
}

// Config fetches what a Pod refers to. Its errors never carry any of it.
func (c *Client) Config(ctx context.Context, r ConfigRequest) (ConfigResponse, error) {
	return call[ConfigResponse](ctx, c, PathConfig, r, requestTimeout)
}

// Events delivers Events; those of a failed call may be sent again.
func (c *Client) Events(ctx context.Context, e Events) error {
	_, err := call[struct{}](ctx, c, PathEvents, e, requestTimeout)
	return err
}

// call tries the server that last answered, then each other once. A server's refusal is an answer; being unreachable or
// unavailable is not.
func call[Answer any](ctx context.Context, c *Client, path string, request any, timeout time.Duration) (Answer, error) {
	var answer Answer
	body, err := json.Marshal(request)
	if err != nil {
		return answer, fmt.Errorf("encode request for %s: %w", path, err)
	}
	err = errNoServers
	var tried []string
	c.redraw()
	_, servers := c.first()
	for range servers {
		server, _ := c.first()
		err = c.once(ctx, server+path, body, &answer, timeout)
		switch {
		case err == nil || !elsewhere(err):
			c.answered(server, nil)
			return answer, err
		case ctx.Err() != nil:
			return answer, err
		}
		c.answered(server, err)
		tried = append(tried, server)
	}
	return answer, unanswered(tried, err)
}

// unanswered says who was tried and what to look at, unless somebody did answer, or err says more.
func unanswered(tried []string, err error) error {
	var status apierrors.APIStatus
	if len(tried) == 0 || errors.As(err, &status) || errors.Is(err, ErrAuthority) {
		return err
	}
	return fmt.Errorf("tried %s: %w: check that a server runs there (mainstay server list on its machine), and that its port is open from this one",
		strings.Join(tried, ", "), err)
}

// elsewhere reports whether another server may do better.
func elsewhere(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError
}

func (c *Client) once(ctx context.Context, url string, body []byte, answer any, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s did not answer within %s", url, timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request for %s: %w", url, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return because(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return refusal(url, resp)
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", url, because(ctx, err))
	}
	if len(raw) > 0 && json.Unmarshal(raw, answer) != nil {
		return fmt.Errorf("the answer of %s is not what was expected", url) // what was wrong with it may be secret
	}
	return nil
}

// because prefers the reason why the context ended to the bare fact.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// refusal turns an answer into the error it says; only a Status is ever quoted.
func refusal(url string, resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer)) // a partial body is no Status, which is dealt with below
	var status metav1.Status
	if json.Unmarshal(raw, &status) == nil && status.Kind == "Status" {
		status.Code = int32(resp.StatusCode)
		return fmt.Errorf("%s: %w", url, &apierrors.StatusError{ErrStatus: status})
	}
	return fmt.Errorf("%s: %w", url, apierrors.NewGenericServerResponse(resp.StatusCode, http.MethodPost, NodesResource, "", "", 0, true))
}
