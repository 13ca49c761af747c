package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

const (
	acceptJSON  = "application/json"
	acceptTable = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

	// Long enough for a plan of thousands of objects on a busy server; short enough that nobody thinks the command hangs for good.
	answerTimeout = 60 * time.Second
)

// client speaks to one of a cluster's API servers: the one that answered last.
type client struct {
	web        *http.Client
	servers    []*url.URL // at least one; the one that the kubeconfig means comes first
	at         atomic.Int32
	kubeconfig string
	namespace  string
}

// request is one question to the API.
type request struct {
	method string // GET if empty
	path   string
	query  url.Values
	accept string // JSON if empty
	body   any    // sent as JSON
}

// failure is an answer of the API other than success.
type failure struct {
	code   int
	status metav1.Status
	text   string
}

func (f failure) Error() string { return f.text }

func isNotFound(err error) bool { return hasCode(err, http.StatusNotFound) }
func isGone(err error) bool     { return hasCode(err, http.StatusGone) }

func hasCode(err error, code int) bool {
	var f failure
	return errors.As(err, &f) && f.code == code
}

// get asks and decodes the JSON answer into out.
func (c *client) get(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer from %s within %s", c.server().Host, answerTimeout))
	defer cancel()
	data, err := c.read(ctx, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s did not answer %s as a Mainstay server does: %w", c.server().Host, r.path, err)
	}
	return nil
}

func (c *client) read(ctx context.Context, r request) ([]byte, error) {
	body, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return data, nil
}

// server is the one that is asked now.
func (c *client) server() *url.URL { return c.servers[int(c.at.Load())%len(c.servers)] }

// open asks and hands over the answer's body, which may be endless. The caller closes it. If a server does not answer, or says
// that it cannot now, the others are asked; what the first one said counts if none can.
func (c *client) open(ctx context.Context, r request) (io.ReadCloser, error) {
	var first error
	for range c.servers {
		at := c.at.Load()
		body, err := c.ask(ctx, r)
		if err == nil || ctx.Err() != nil || !elsewhere(err) {
			return body, err
		}
		if first == nil {
			first = err
		}
		c.at.CompareAndSwap(at, at+1)
	}
	if len(c.servers) > 1 {
		first = advice{fmt.Sprintf("%s\nNone of the other %d addresses in %s does better.", first, len(c.servers)-1, c.kubeconfig), first}
	}
	return nil, first
}

// elsewhere reports whether another server may do better.
func elsewhere(err error) bool {
	var f failure
	return !errors.As(err, &f) || slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, f.code)
}

func (c *client) ask(ctx context.Context, r request) (io.ReadCloser, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.web.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(resp)
}

func (c *client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request to %s: %w", r.path, err)
		}
		body = bytes.NewReader(data)
	}
	where := c.server().JoinPath(r.path)
	where.RawQuery = r.query.Encode()
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, where.String(), body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", where, err)
	}
	req.Header.Set("Accept", acceptJSON)
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if body != nil {
		req.Header.Set("Content-Type", acceptJSON)
	}
	return req, nil
}

// The largest error answer worth reading.
const maxErrorBytes = 1 << 20

func (c *client) refused(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err != nil {
		return c.explain(resp.Request.Context(), err)
	}
	f := failure{code: resp.StatusCode}
	if json.Unmarshal(data, &f.status) != nil || f.status.Message == "" {
		f.status.Message = oneLine(string(data))
	}
	switch {
	case f.code == http.StatusUnauthorized:
		f.text = fmt.Sprintf("the server %s does not accept the credentials in %s\n"+
			"They are of another cluster, or of one whose data directory was deleted: use the kubeconfig in the server's data directory.",
			c.server().Host, c.kubeconfig)
	case f.code == http.StatusForbidden:
		f.text = fmt.Sprintf("the server %s does not allow this with the credentials in %s: %s", c.server().Host, c.kubeconfig, f.status.Message)
	case f.status.Message != "":
		f.text = f.status.Message
	default:
		f.text = fmt.Sprintf("the server %s answered %s to %s", c.server().Host, resp.Status, resp.Request.URL.Path)
	}
	return f
}

// explain turns a transport's error into what happened and what to do about it.
func (c *client) explain(ctx context.Context, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &unknown):
		return advice{fmt.Sprintf("the server at %s is not the one that %s is for: its certificate is of another authority\n"+
			"If its data directory was deleted and made again, use the kubeconfig that lies in it now.", c.server().Host, c.kubeconfig), err}
	case errors.As(err, &name):
		return advice{fmt.Sprintf("the certificate of the server is not for the address %s: %s", c.server().Host, name.Error()), err}
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return advice{fmt.Sprintf("no server answers at %s: %s\nIs `mainstay up` running there? The address stands in %s.", c.server().Host, err, c.kubeconfig), err}
}

// pathOf is where the API has objects of kind k. An empty namespace is all of them, an empty name a list.
func pathOf(k object.Kind, namespace, name string) string {
	path := "/apis/" + k.Group + "/" + k.Version
	if k.Group == "" {
		path = "/api/" + k.Version
	}
	if k.Namespaced && namespace != "" {
		path += "/namespaces/" + url.PathEscape(namespace)
	}
	path += "/" + k.Resource
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// list reads all objects of type T in a namespace, or in all if it is "".
func list[T object.Object](ctx context.Context, c *client, namespace string, query url.Values) ([]T, string, error) {
	var answer struct {
		metav1.ListMeta `json:"metadata"`
		Items           []T `json:"items"`
	}
	err := c.get(ctx, request{path: pathOf(object.KindFor[T](), namespace, ""), query: query}, &answer)
	return answer.Items, answer.ResourceVersion, err
}

// one reads one object.
func one[T object.Object](ctx context.Context, c *client, namespace, name string) (T, error) {
	k := object.KindFor[T]()
	obj := k.New().(T)
	return obj, c.get(ctx, request{path: pathOf(k, namespace, name)}, obj)
}

// any reports whether there is an object of a kind in any namespace that query means; query may be nil.
func (c *client) any(ctx context.Context, k object.Kind, query url.Values) (bool, error) {
	var answer struct {
		Items []json.RawMessage `json:"items"`
	}
	one := url.Values{"limit": {"1"}}
	maps.Copy(one, query)
	err := c.get(ctx, request{path: pathOf(k, "", ""), query: one}, &answer)
	return len(answer.Items) > 0, err
}

// checkNamespace answers no if the namespace asked about does not exist. The default one always does.
func (c *client) checkNamespace(ctx context.Context) error {
	if c.namespace == metav1.NamespaceDefault {
		return nil
	}
	_, err := one[*corev1.Namespace](ctx, c, "", c.namespace)
	if isNotFound(err) {
		return no("there is no namespace %q", c.namespace)
	}
	return err
}
