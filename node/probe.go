package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// maxProbeOutput is how much of what a probe answered is shown.
	maxProbeOutput = 10 << 10
	userAgent      = "mainstay-probe"
	// answerTimeout tells an engine that hangs from a command that does.
	answerTimeout = 2 * time.Second
)

// target is what a probe or a hook is about.
type target struct {
	Container *corev1.Container
	ID        string // of the attempt, for exec
	IP        string // of the Pod
}

// check is one try of a handler: nil means success. Whatever ends with ctx has failed.
func check(ctx context.Context, rt runtime.Runtime, h corev1.ProbeHandler, t target) error {
	switch {
	case h.Exec != nil:
		return checkExec(ctx, rt, h.Exec.Command, t)
	case h.HTTPGet != nil:
		return checkHTTP(ctx, h.HTTPGet, t)
	case h.TCPSocket != nil:
		return checkTCP(ctx, h.TCPSocket, t)
	case h.GRPC != nil:
		return checkGRPC(ctx, h.GRPC, t)
	default:
		return errors.New("there is no handler")
	}
}

// errEngineSilent is an engine that hangs.
var errEngineSilent = errors.New("the container engine does not answer")

// undecided is a try that says nothing of the container: the engine could not be asked.
type undecided struct{ error }

func (u undecided) Unwrap() error { return u.error }

func checkExec(ctx context.Context, rt runtime.Runtime, command []string, t target) error {
	code, output, err := rt.Exec(ctx, t.ID, command)
	if err != nil {
		if ctx.Err() != nil && answers(ctx, rt) {
			return context.Cause(ctx) // it is the command that hangs
		}
		return undecided{err}
	}
	if code != 0 {
		return fmt.Errorf("%s", orCode(output, code))
	}
	return nil
}

// answers reports whether the engine answers at all. It does not mind that ctx ended.
func answers(ctx context.Context, rt runtime.Runtime) bool {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), answerTimeout, errEngineSilent)
	defer cancel()
	_, err := rt.Info(ctx)
	return err == nil
}

func orCode(output []byte, code int) string {
	if text := strings.TrimSpace(string(output[:min(len(output), maxProbeOutput)])); text != "" {
		return text
	}
	return fmt.Sprintf("command exited with %d", code)
}

// port resolves a port's number or name.
func port(c *corev1.Container, p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for i := range c.Ports {
			if c.Ports[i].Name == p.StrVal {
				return int(c.Ports[i].ContainerPort), nil
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("container %s has no port %s", c.Name, p.String())
	}
	return n, nil
}

func address(host string, p intstr.IntOrString, t target) (string, error) {
	n, err := port(t.Container, p)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = t.IP
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

func checkTCP(ctx context.Context, a *corev1.TCPSocketAction, t target) error {
	addr, err := address(a.Host, a.Port, t)
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func checkHTTP(ctx context.Context, a *corev1.HTTPGetAction, t target) error {
	resp, body, err := get(ctx, a, t)
	if err != nil {
		return err
	}
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP probe failed with statuscode: %d%s", resp.StatusCode, quoted(body))
	}
	return nil
}

func quoted(body []byte) string {
	if text := strings.TrimSpace(string(body)); text != "" {
		return ": " + text
	}
	return ""
}

// get does what httpGet says: like Kubernetes it believes any certificate, follows redirects within the host alone, and
// takes one that leads elsewhere as the answer.
func get(ctx context.Context, a *corev1.HTTPGetAction, t target) (*http.Response, []byte, error) {
	req, err := request(ctx, a, t)
	if err != nil {
		return nil, nil, err
	}
	client := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // a probe asks whether, not who
			DisableKeepAlives: true,
		},
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			if to.URL.Hostname() != req.URL.Hostname() || len(via) >= 10 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeOutput))
	return resp, body, err
}

func request(ctx context.Context, a *corev1.HTTPGetAction, t target) (*http.Request, error) {
	addr, err := address(a.Host, a.Port, t)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(a.Path)
	if err != nil { // as Kubernetes: a path that is no URL is taken literally
		u = &url.URL{Path: a.Path}
	}
	u.Scheme, u.Host = strings.ToLower(string(a.Scheme)), addr
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "*/*")
	for _, h := range a.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		if strings.EqualFold(h.Name, "User-Agent") || strings.EqualFold(h.Name, "Accept") {
			req.Header.Set(h.Name, h.Value)
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	return req, nil
}

// probeTimeout is how long one try may take.
func probeTimeout(p *corev1.Probe) time.Duration {
	return time.Duration(max(1, p.TimeoutSeconds)) * time.Second
}
