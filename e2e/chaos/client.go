package chaos

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// answering bounds a question. It is long enough that a server which was stopped meanwhile may answer when it goes on: such an
// answer is where stale reads show.
const answering = 15 * time.Second

// client reads the API, from one server at a time, by connections of its own.
type client struct {
	name string
	http *http.Client
}

// newClient has the credentials that the first server wrote.
func (c *cluster) newClient(name string) *client {
	return &client{name: name, http: &http.Client{Transport: &http.Transport{TLSClientConfig: c.credentials.Clone(), ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}}}
}

// readCredentials are those of the kubeconfig that a server wrote.
func readCredentials(s *server) (*tls.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.data, "kubeconfig"))
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of %s: %w", s.name, err)
	}
	return rest.TLSConfigFor(config)
}

// refusal is an answer that is none.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.code, r.text) }

// open asks a server; the answer is to be closed.
func (cl *client) open(ctx context.Context, s *server, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.address+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := cl.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // as much of why as there is
		return nil, &refusal{resp.StatusCode, string(text)}
	}
	return resp.Body, nil
}

// get decodes a server's answer.
func (cl *client) get(ctx context.Context, s *server, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	body, err := cl.open(ctx, s, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of %s to %s: %w", s.name, path, err)
	}
	return nil
}
