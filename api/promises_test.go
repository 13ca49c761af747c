package api_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// readPaths are every collection and every object of a store, and whatever else a reader may ask for.
func readPaths(s *state.Store) []string {
	paths := []string{
		"/version", "/api", "/apis", "/openapi/v3", "/api/v1", "/apis/apps", "/apis/apps/v1", "/apis/discovery.k8s.io/v1", "/apis/mainstay.dev/v1alpha1",
		"/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1", "/openapi/v3/apis/mainstay.dev/v1alpha1", "/nowhere", "/api/v1/nothings", "/metrics",
	}
	view := s.View()
	for _, k := range object.Kinds() {
		base := "/apis/" + k.Group + "/" + k.Version
		if k.Group == "" {
			base = "/api/" + k.Version
		}
		paths = append(paths, base+"/"+k.Resource)
		for obj := range state.ListKind(view, k, "") {
			at := base
			if k.Namespaced {
				at += "/namespaces/" + obj.GetNamespace()
			}
			item := at + "/" + k.Resource + "/" + obj.GetName()
			paths = append(paths, at+"/"+k.Resource, item, item+"/status", item+"/scale", item+"/log", item+"/exec",
				"/mainstay/v1/trace?kind="+k.Kind+"&namespace="+obj.GetNamespace()+"&name="+obj.GetName())
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

var forms = []string{
	"application/json", "application/vnd.kubernetes.protobuf", "*/*",
	"application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
	"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
	"application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
}

// P1: no request changes desired state, whoever makes it and whatever it asks for.
func TestP1EveryWriteIsRefused(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	before := s.store.View().Version
	body := `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"web","namespace":"shop"},"spec":{"replicas":9}}`
	for _, path := range readPaths(s.store) {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "CONNECT-ISH"} {
			for _, token := range []string{"admin", "viewer", "n1", "stranger"} {
				code, out := s.do(token, method, path, body)
				want := http.StatusMethodNotAllowed
				if token == "n1" || token == "stranger" {
					want = http.StatusForbidden
				}
				if code != want {
					t.Errorf("%s %s as %s: %d %s, want %d", method, path, token, code, out, want)
				}
			}
		}
	}
	if after := s.store.View().Version; after != before {
		t.Errorf("version %d became %d", before, after)
	}
}

func TestRefusalSaysWhereToMakeTheChange(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	for path, want := range map[string]string{
		"/apis/apps/v1/namespaces/shop/deployments/web":       "Mainstay is changed through Git: edit apps/web.yaml (line 12) on branch main and push",
		"/apis/apps/v1/namespaces/shop/deployments/web/scale": "Mainstay is changed through Git: edit apps/web.yaml (line 12) on branch main and push",
		"/api/v1/namespaces/shop/pods/web-5d4f8-aaaaa":        "Mainstay is changed through Git: edit apps/web.yaml (line 12), which declares Deployment web, on branch main and push",
		"/api/v1/namespaces/shop":                             "Mainstay is changed through Git: edit shop.yaml (line 3) on branch main and push",
		"/api/v1/namespaces/shop/pods/nope":                   "Mainstay is changed through Git: edit the manifests under deploy/ on branch main of https://git.example/shop.git and push",
	} {
		status := s.refused("admin", http.MethodDelete, path, nil)
		if status.Reason != metav1.StatusReasonMethodNotAllowed || status.Message != want {
			t.Errorf("DELETE %s: %s %q, want %q", path, status.Reason, status.Message, want)
		}
	}
	empty := serve(t, api.Config{})
	if got := empty.refused("admin", http.MethodPost, "/api/v1/namespaces", `{}`).Message; got != "Mainstay is changed through Git: edit the manifests on the branch that Mainstay follows and push" {
		t.Errorf("with an empty store: %q", got)
	}
}

// P7: objects, Pods and Events lead back to commit, author, file and line.
func TestP7EverythingIsTraced(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	for _, about := range []string{"kind=deploy&namespace=shop&name=web", "kind=Pod&namespace=shop&name=web-5d4f8-aaaaa", "kind=ev&namespace=shop&name=web-5d4f8-aaaaa.1"} {
		var got api.Trace
		s.get("/mainstay/v1/trace?"+about, &got)
		last := got.Chain[len(got.Chain)-1]
		if got.Commit != commit || got.Author != "Ada <ada@example.org>" || got.Path != "apps/web.yaml" || got.Line != 12 || last.Kind != "Deployment" || last.Name != "web" {
			t.Errorf("%s: %+v", about, got)
		}
	}
	if code := s.refused("admin", http.MethodGet, "/mainstay/v1/trace?kind=Pod&namespace=shop&name=nope", nil).Code; code != http.StatusNotFound {
		t.Errorf("an object that does not exist: %d, want 404", code)
	}
}

// P11: the value of a Secret is in no answer to any reader, in any form, nor can it be guessed with a selector.
func TestP11SecretsAreNeverServed(t *testing.T) {
	s := serve(t, api.Config{
		Plan: func(context.Context, api.PlanRequest) (any, error) { return struct{}{}, nil },
	}, shop()...)
	check := func(what, body string) {
		t.Helper()
		for _, secret := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(`{"data":"` + canary))[:20]} {
			if strings.Contains(body, secret) {
				t.Errorf("%s gave the secret away: %s", what, body)
			}
		}
	}
	suffixes := []string{"", "?limit=1", "?includeObject=Object", "?fieldSelector=data.password%3D" + canary}
	answers := 0
	for _, path := range readPaths(s.store) {
		for i, accept := range forms {
			for j, suffix := range suffixes {
				isSecret := strings.Contains(path, "secrets") || strings.Contains(path, "sources")
				if !isSecret && i > 0 && j > 0 || j > 0 && strings.Contains(path, "?") {
					continue // the full product is for what holds secrets
				}
				_, body := s.do("admin", http.MethodGet, path+suffix, nil, "Accept", accept)
				check("GET "+path+suffix+" as "+accept, body)
				answers++
			}
		}
	}
	t.Logf("%d answers read", answers)
	for _, path := range []string{"/api/v1/secrets", "/apis/mainstay.dev/v1alpha1/sources"} {
		for _, accept := range forms {
			lines := s.stream(path+"?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&includeObject=Object", accept)
			for line := ""; !strings.Contains(line, `"BOOKMARK"`); {
				raw, err := lines.ReadString('\n')
				if err != nil {
					t.Fatalf("watch %s: %v", path, err)
				}
				line = raw
				check("watch "+path+" as "+accept, line)
			}
		}
	}
	for _, path := range []string{"/mainstay/v1/plan", "/mainstay/v1/node/report", "/mainstay/v1/node/config", "/mainstay/v1/node/register", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"} {
		for _, token := range []string{"admin", "n1", "n2"} {
			for _, body := range []string{`{"` + canary + `": 3`, canary, `{"files": {"a": "` + canary + `!"}}`} {
				_, out := s.do(token, http.MethodPost, path, body)
				if path != "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" { // a question holds no secret
					check("POST "+path, out)
				}
			}
		}
	}
}

func TestWhoMayAskWhat(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	for _, tc := range []struct {
		token, method, path string
		want                int
	}{
		{"", "GET", "/livez", 200}, {"", "GET", "/readyz", 200}, {"", "GET", "/healthz", 200},
		{"", "GET", "/version", 401}, {"", "GET", "/api/v1/pods", 401}, {"", "DELETE", "/api/v1/namespaces/shop", 401}, {"", "POST", "/mainstay/v1/node/pods", 401},
		{"wrong", "GET", "/api/v1/pods", 401},
		{"admin", "GET", "/api/v1/pods", 200}, {"viewer", "GET", "/api/v1/pods", 200}, {"viewer", "GET", "/api/v1/secrets", 200},
		{"n1", "GET", "/api/v1/pods", 403}, {"n1", "GET", "/api/v1/nodes/n1", 403}, {"n1", "POST", "/mainstay/v1/plan", 403},
		{"stranger", "GET", "/api/v1/pods", 403}, {"stranger", "POST", "/mainstay/v1/node/pods", 403},
		{"viewer", "POST", "/mainstay/v1/node/pods", 403}, {"admin", "POST", "/mainstay/v1/node/report", 403}, {"admin", "POST", "/mainstay/v1/node/config", 403},
		{"n1", "GET", "/mainstay/v1/node/pods", 405}, {"n1", "POST", "/mainstay/v1/node/nothing", 404},
	} {
		code, out := s.do(tc.token, tc.method, tc.path, `{}`)
		if code != tc.want {
			t.Errorf("%s %s as %q: %d %s, want %d", tc.method, tc.path, tc.token, code, out, tc.want)
		}
	}
	if code, _ := s.do("admin", "GET", "/api/v1/pods", nil, "Impersonate-User", "root"); code != http.StatusForbidden {
		t.Errorf("impersonation: %d, want 403", code)
	}
}
