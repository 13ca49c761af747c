package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
)

// verbs are what discovery promises for every kind.
var verbs = metav1.Verbs{"get", "list", "watch"}

// discovery answers what is served, and says whether the request was for that.
func (a *API) discovery(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch path {
	case "/version":
		writeJSON(w, http.StatusOK, a.versionInfo())
		return true
	case "/api", "/apis":
		kinds := slices.DeleteFunc(served(a.Store), func(k object.Kind) bool { return (k.Group == "") != (path == "/api") })
		if !aggregated(w, r, kinds) {
			writeJSON(w, http.StatusOK, groupList(path, kinds))
		}
		return true
	case "/openapi/v3":
		writeJSON(w, http.StatusOK, a.documents().index)
		return true
	}
	if gv, ok := strings.CutPrefix(path, "/openapi/v3/"); ok {
		return a.document(w, gv)
	}
	return a.groupDiscovery(w, strings.Split(strings.TrimPrefix(path, "/"), "/"))
}

// groupDiscovery answers /api/v1, /apis/<group> and /apis/<group>/<version>.
func (a *API) groupDiscovery(w http.ResponseWriter, parts []string) bool {
	var group, version string
	switch {
	case len(parts) == 2 && parts[0] == "api":
		version = parts[1]
	case len(parts) == 2 && parts[0] == "apis":
		group = parts[1]
	case len(parts) == 3 && parts[0] == "apis":
		group, version = parts[1], parts[2]
	default:
		return false
	}
	kinds := slices.DeleteFunc(served(a.Store), func(k object.Kind) bool {
		return k.Group != group || version != "" && k.Version != version
	})
	switch {
	case len(kinds) == 0:
		return false
	case version == "":
		writeJSON(w, http.StatusOK, legacyGroup(kinds[0].GroupVersion()))
	default:
		writeJSON(w, http.StatusOK, resourceList(kinds))
	}
	return true
}

func groupList(path string, kinds []object.Kind) any {
	if path == "/api" {
		return metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
		}
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, gv := range groupVersions(kinds) {
		group := legacyGroup(gv)
		group.TypeMeta = metav1.TypeMeta{}
		list.Groups = append(list.Groups, group)
	}
	return list
}

func legacyGroup(gv schema.GroupVersion) metav1.APIGroup {
	version := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     gv.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
	}
}

func resourceList(kinds []object.Kind) metav1.APIResourceList {
	list := metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: kinds[0].GroupVersion().String(),
	}
	for _, k := range kinds {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: k.Resource, SingularName: k.Singular(), Namespaced: k.Namespaced, Kind: k.Kind, Verbs: verbs,
			ShortNames: k.ShortNames, Categories: k.Categories,
		})
		if hasLogs(k) {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: k.Resource + "/log", Namespaced: true, Kind: k.Kind, Verbs: metav1.Verbs{"get"},
			})
		}
	}
	return list
}

// aggregated answers with every group in one document, if the client accepts that.
func aggregated(w http.ResponseWriter, r *http.Request, kinds []object.Kind) bool {
	for _, c := range clauses(r.Header.Get("Accept")) {
		version := c.params["v"]
		if !c.isJSON() || c.params["g"] != apidiscoveryv2.GroupName || c.params["as"] != "APIGroupDiscoveryList" ||
			version != "v2" && version != "v2beta1" {
			continue
		}
		list := apidiscoveryv2.APIGroupDiscoveryList{
			TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: apidiscoveryv2.GroupName + "/" + version},
			Items:    []apidiscoveryv2.APIGroupDiscovery{},
		}
		for _, gv := range groupVersions(kinds) {
			list.Items = append(list.Items, groupOf(gv, kinds))
		}
		body, err := json.Marshal(list)
		if err != nil {
			return false
		}
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v="+version+";as=APIGroupDiscoveryList")
		w.Header().Set("Vary", "Accept")
		_, _ = w.Write(body) // a client that left needs no answer
		return true
	}
	return false
}

func groupOf(gv schema.GroupVersion, kinds []object.Kind) apidiscoveryv2.APIGroupDiscovery {
	version := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, k := range kinds {
		if k.GroupVersion() == gv {
			version.Resources = append(version.Resources, resourceOf(k))
		}
	}
	return apidiscoveryv2.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []apidiscoveryv2.APIVersionDiscovery{version},
	}
}

func resourceOf(k object.Kind) apidiscoveryv2.APIResourceDiscovery {
	gvk := metav1.GroupVersionKind(k.GroupVersionKind)
	d := apidiscoveryv2.APIResourceDiscovery{
		Resource: k.Resource, ResponseKind: &gvk, Scope: apidiscoveryv2.ScopeCluster, SingularResource: k.Singular(),
		Verbs: verbs, ShortNames: k.ShortNames, Categories: k.Categories,
	}
	if k.Namespaced {
		d.Scope = apidiscoveryv2.ScopeNamespace
	}
	if hasLogs(k) {
		d.Subresources = []apidiscoveryv2.APISubresourceDiscovery{{Subresource: "log", ResponseKind: &gvk, Verbs: []string{"get"}}}
	}
	return d
}

func hasLogs(k object.Kind) bool { return k.Group == "" && k.Kind == "Pod" }

// groupVersions lists those of kinds, each once, in their order.
func groupVersions(kinds []object.Kind) (gvs []schema.GroupVersion) {
	for _, k := range kinds {
		if !slices.Contains(gvs, k.GroupVersion()) {
			gvs = append(gvs, k.GroupVersion())
		}
	}
	return gvs
}
