package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
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
	// pingAfter finds servers that vanished without closing the connection.
	pingAfter = 5 * time.Second
)

// NodesResource names what the protocol's refusals are about.
var NodesResource = schema.GroupResource{Resource: "nodes"}

// errNoServers is a mistake in the agent's configuration.
var errNoServers = errors.New("no server address is configured")

// Client speaks to whichever of a cluster's servers answers, and stays with it as long as it does. It repeats nothing but
// with the other servers: the caller decides when to try again. Safe for concurrent use.
type Client struct {
	servers []string // base URLs
	current atomic.Uint32
	http    *http.Client
}

// New returns a client for servers given as host:port, spoken to over TLS as config says.
func New(servers []string, config *tls.Config) *Client {
	return NewVia(&http.Transport{
		TLSClientConfig:     config,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: requestTimeout,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
	}, servers...)
}

// NewVia is New for a transport of the caller's choosing, e.g. one that never leaves the process.
func NewVia(transport http.RoundTripper, servers ...string) *Client {
	c := &Client{http: &http.Client{Transport: transport}}
	for _, server := range servers {
		if !strings.Contains(server, "://") {
			server = "https://" + server
		}
		c.servers = append(c.servers, strings.TrimSuffix(server, "/"))
	}
	return c
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
	for range c.servers {
		at := c.current.Load()
		err = c.once(ctx, c.servers[int(at)%len(c.servers)]+path, body, &answer, timeout)
		if err == nil || ctx.Err() != nil || !elsewhere(err) {
			return answer, err
		}
		c.current.CompareAndSwap(at, at+1)
	}
	return answer, err
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
