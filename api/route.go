package api

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// ServerPrefix is before what servers ask each other; see Config.Servers.
const ServerPrefix = mainstayPrefix + "server/"

// mainstayPrefix is before Mainstay's own endpoints, which are not part of the Kubernetes API.
const mainstayPrefix = "/mainstay/v1/"

// endpoints are those below mainstayPrefix.
var endpoints = []string{"plan", "trace", "node/register", "node/pods", "node/report", "node/config", "node/network", "node/events", "node/renew", "join",
	"server/enlist", "server/remove", "server/transfer", "server/seen", "server/tokens", "server/revoke", "servers"}

// kubernetesVersion is that of the types, defaults and columns that Mainstay shares with Kubernetes; kubectl chooses by it.
const kubernetesMajor, kubernetesMinor = "1", "36"

// route finds who asks, whether they may, and who answers.
func (a *API) route(w http.ResponseWriter, r *http.Request) error {
	r, err := a.received(r)
	if err != nil {
		return err
	}
	switch r.URL.Path {
	case "/livez":
		return plain(w, "ok")
	case "/readyz", "/healthz":
		return a.health(w)
	case link.PathJoin:
		return a.join(w, r)
	}
	id, ok := identify(r)
	if !ok {
		return apierrors.NewUnauthorized("credentials are missing or not valid: use the kubeconfig that the server wrote into its data directory")
	}
	if r.Header.Get("Impersonate-User") != "" {
		return forbidden("impersonation is not offered")
	}
	if endpoint, ok := strings.CutPrefix(r.URL.Path, mainstayPrefix+"node/"); ok {
		return a.node(w, r, id, endpoint)
	}
	if strings.HasPrefix(r.URL.Path, ServerPrefix) {
		return a.server(w, r, id)
	}
	if err := reader(id); err != nil {
		return err
	}
	if strings.HasPrefix(r.URL.Path, mainstayPrefix) {
		return a.own(w, r)
	}
	if review, ok := reviews[r.URL.Path]; ok && r.Method == http.MethodPost {
		return review(w, r, id)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return a.notARead(r, id)
	}
	return a.read(w, r)
}

// server serves what servers ask each other.
func (a *API) server(w http.ResponseWriter, r *http.Request, id Identity) error {
	if !id.in(GroupServers) {
		return forbidden(id.Name + " is not a server: the endpoints under " + ServerPrefix + " are for servers")
	}
	if a.Servers == nil {
		return notFound(r.URL.Path)
	}
	a.Servers.ServeHTTP(w, r)
	return nil
}

// own serves Mainstay's endpoints for readers.
func (a *API) own(w http.ResponseWriter, r *http.Request) error {
	switch strings.TrimPrefix(r.URL.Path, mainstayPrefix) {
	case "plan":
		return a.plan(w, r)
	case "trace":
		return a.trace(w, r)
	case "servers":
		return a.members(w, r)
	}
	return notFound(r.URL.Path)
}

// members says which servers there are, and which of them answer.
func (a *API) members(w http.ResponseWriter, r *http.Request) error {
	if a.Members == nil {
		return notFound(r.URL.Path)
	}
	list, err := a.Members(r.Context())
	if err != nil {
		return unavailable(err.Error())
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// read serves the Kubernetes API.
func (a *API) read(w http.ResponseWriter, r *http.Request) error {
	if a.discovery(w, r) {
		return nil
	}
	at, ok := parsePath(r.URL.Path)
	if !ok {
		return notFound(r.URL.Path)
	}
	kind, ok := at.kind(served(a.Store))
	if !ok {
		return notFound(r.URL.Path)
	}
	q := request{kind: kind, key: at.key, form: negotiate(r.Header.Get("Accept")), r: r}
	switch {
	case at.key.Name == "":
		return a.collection(w, q)
	case at.sub == "" || at.sub == "status":
		return a.get(w, q)
	case at.sub == "log" && hasLogs(kind):
		return a.logs(w, q)
	case isRemote(at.sub):
		return a.notARead(r, Identity{})
	}
	return notFound(r.URL.Path)
}

// served are the kinds that can be read.
func served(s *state.Store) []object.Kind {
	view := s.View()
	return slices.DeleteFunc(object.Kinds(), func(k object.Kind) bool { return !state.Has(view, k) })
}

// place is what a path of the Kubernetes API points at.
type place struct {
	group, version, resource string
	namespaced               bool // the path names a namespace
	key                      state.Key
	sub                      string // log, status, scale, …
}

// parsePath takes apart /api/v1/… and /apis/<group>/<version>/…, with or without /namespaces/<namespace>/.
func parsePath(path string) (at place, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if slices.Contains(parts, "") {
		return place{}, false
	}
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		at.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		at.group, at.version, parts = parts[1], parts[2], parts[3:]
	default:
		return place{}, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		at.namespaced, at.key.Namespace, parts = true, parts[1], parts[2:]
	}
	at.resource = parts[0]
	if len(parts) > 1 {
		at.key.Name = parts[1]
	}
	at.sub = strings.Join(parts[min(2, len(parts)):], "/")
	return at, true
}

// kind finds the kind at a place. A namespaced one can be listed without a namespace, but has no objects there.
func (p place) kind(kinds []object.Kind) (object.Kind, bool) {
	i := slices.IndexFunc(kinds, func(k object.Kind) bool {
		return k.Group == p.group && k.Version == p.version && k.Resource == p.resource
	})
	if i < 0 || p.namespaced && !kinds[i].Namespaced {
		return object.Kind{}, false
	}
	return kinds[i], p.namespaced || !kinds[i].Namespaced || p.key.Name == ""
}

func (a *API) health(w http.ResponseWriter) error {
	if err := a.ready(); err != nil {
		return err
	}
	return plain(w, "ok")
}

// ready says why this server does not know the whole cluster, if so.
func (a *API) ready() error {
	if a.Ready == nil {
		return nil
	}
	if err := a.Ready(); err != nil {
		return unavailable(fmt.Sprintf("not ready: %v", err))
	}
	return nil
}

func plain(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte(text))
	return err
}

func (a *API) versionInfo() version.Info {
	return version.Info{
		Major: kubernetesMajor, Minor: kubernetesMinor,
		GitVersion: "v" + kubernetesMajor + "." + kubernetesMinor + ".0+mainstay" + buildSuffix(a.Version),
		GoVersion:  runtime.Version(), Compiler: runtime.Compiler,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// buildSuffix makes a version fit for the build part of a semantic version.
func buildSuffix(v string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '-'
	}, v)
	if clean == "" {
		return ""
	}
	return "." + strings.Trim(clean, ".")
}
