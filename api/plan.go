package api

import (
	"encoding/json"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxPlan bounds an upload of manifests; base64 makes a third more of it on the wire.
const maxPlan = 32 << 20

// PlanRequest carries a tree of manifests as they would stand in the repository.
type PlanRequest struct {
	Path  string            `json:"path,omitempty"` // what the server's --path would be; the names of Files begin below the repository's root
	Files map[string][]byte `json:"files"`
}

// plan serves POST /mainstay/v1/plan. It writes nothing.
func (a *API) plan(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return methodNotAllowed("a plan is made of the manifests in the body of a POST")
	}
	if a.Plan == nil {
		return apierrors.NewServiceUnavailable("this server makes no plans")
	}
	var req PlanRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPlan/3*4+maxPlan/8)).Decode(&req); err != nil {
		return badBody(err)
	}
	size := 0
	for name, content := range req.Files {
		size += len(name) + len(content)
	}
	if size > maxPlan {
		return apierrors.NewRequestEntityTooLargeError("the manifests together exceed 32 MiB")
	}
	result, err := a.Plan(r.Context(), req)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}
