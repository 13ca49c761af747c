package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
)

// documents is the OpenAPI description: one document per group and version, and where each is.
type documents struct {
	index any
	byGV  map[string][]byte // "api/v1", "apis/apps/v1"
}

type jsonMap = map[string]any

// describe writes the OpenAPI v3 documents for kinds. They list writes too: kubectl then sends them, and prints our refusal
// rather than a complaint about the description.
func describe(kinds []object.Kind) documents {
	docs := documents{byGV: map[string][]byte{}}
	paths := jsonMap{}
	for _, gv := range groupVersions(kinds) {
		name := "apis/" + gv.String()
		if gv.Group == "" {
			name = "api/" + gv.Version
		}
		body, err := json.Marshal(documentOf(gv, "/"+name, kinds))
		if err != nil {
			panic("api: the OpenAPI description cannot be encoded: " + err.Error()) // it is made of maps and strings
		}
		docs.byGV[name] = body
		sum := sha256.Sum256(body)
		paths[name] = jsonMap{"serverRelativeURL": "/openapi/v3/" + name + "?hash=" + hex.EncodeToString(sum[:16])}
	}
	docs.index = jsonMap{"paths": paths}
	return docs
}

func (a *API) document(w http.ResponseWriter, gv string) bool {
	body, ok := a.documents().byGV[gv]
	if !ok {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that left needs no answer
	return true
}

func documentOf(gv schema.GroupVersion, prefix string, kinds []object.Kind) jsonMap {
	types := schemas{defs: jsonMap{}}
	paths := jsonMap{}
	for _, k := range kinds {
		if k.GroupVersion() != gv {
			continue
		}
		name := types.root(k)
		base := prefix
		if k.Namespaced {
			base += "/namespaces/{namespace}"
			paths[prefix+"/"+k.Resource] = jsonMap{"get": operation(k, name, "list")}
		}
		paths[base+"/"+k.Resource] = jsonMap{"get": operation(k, name, "list"), "post": operation(k, name, "post")}
		paths[base+"/"+k.Resource+"/{name}"] = jsonMap{
			"get": operation(k, name, "get"), "put": operation(k, name, "put"), "patch": operation(k, name, "patch"),
		}
	}
	return jsonMap{
		"openapi":    "3.0.0",
		"info":       jsonMap{"title": "Mainstay", "version": kubernetesMajor + "." + kubernetesMinor},
		"paths":      paths,
		"components": jsonMap{"schemas": types.defs},
	}
}

func operation(k object.Kind, schemaName, action string) jsonMap {
	op := jsonMap{
		"x-kubernetes-action":             action,
		"x-kubernetes-group-version-kind": gvkMap(k),
		"responses": jsonMap{"200": jsonMap{
			"description": "OK",
			"content":     jsonMap{"application/json": jsonMap{"schema": jsonMap{"$ref": schemaRef(schemaName)}}},
		}},
	}
	if action == "post" || action == "put" || action == "patch" {
		op["parameters"] = []any{queryParameter("dryRun"), queryParameter("fieldManager"), queryParameter("fieldValidation")}
	}
	return op
}

func queryParameter(name string) jsonMap {
	return jsonMap{"name": name, "in": "query", "schema": jsonMap{"type": "string", "uniqueItems": true}}
}

func gvkMap(k object.Kind) jsonMap {
	return jsonMap{"group": k.Group, "version": k.Version, "kind": k.Kind}
}

func schemaRef(name string) string { return "#/components/schemas/" + name }
