package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// maxNodeBody bounds what an agent may send: a few hundred Pods with their statuses are far below.
const maxNodeBody = 64 << 20

// node serves the endpoints of node/link, for the node that the caller is.
func (a *API) node(w http.ResponseWriter, r *http.Request, id Identity, endpoint string) error {
	if !id.in(GroupNodes) {
		return forbidden(id.Name + " is not a node: the endpoints under /mainstay/v1/node/ are for agents")
	}
	if err := a.certain(r.Context(), func(view state.Reader) error { return inPlace(view, id) }); err != nil {
		return err
	}
	if r.Method != http.MethodPost {
		return methodNotAllowed("node endpoints are called by POST")
	}
	w.Header()["Date"] = nil // agents do not read it, and another one each second fills the connection's table of headers
	r.Body = http.MaxBytesReader(w, r.Body, maxNodeBody)
	if writes(endpoint) {
		if done, err := a.passOn(w, r, id); done {
			return err
		}
	}
	return a.answerNode(w, r, id, endpoint)
}

// answerNode answers a node that may ask.
func (a *API) answerNode(w http.ResponseWriter, r *http.Request, id Identity, endpoint string) error {
	switch endpoint {
	case "register":
		return answer(w, r, func(ctx context.Context, req link.Registration) (any, error) {
			if req.Node == nil {
				return nil, apierrors.NewBadRequest("the registration has no node")
			}
			return a.register(ctx, id, req)
		})
	case "pods":
		return answer(w, r, func(ctx context.Context, req link.PodsRequest) (any, error) {
			return a.nodePods(ctx, id, &req)
		})
	case "report":
		return answer(w, r, func(ctx context.Context, req link.Report) (any, error) {
			return nil, a.nodeReport(ctx, id, req)
		})
	case "config":
		return answer(w, r, func(ctx context.Context, req link.ConfigRequest) (any, error) {
			return a.nodeConfig(ctx, id, req)
		})
	case "network":
		return a.nodeNetwork(w, r, id)
	case "events":
		return answer(w, r, func(ctx context.Context, req link.Events) (any, error) {
			return nil, a.nodeEvents(ctx, id, req)
		})
	case "renew":
		return a.renew(w, r, id)
	}
	return notFound(r.URL.Path)
}

// inPlace lets a machine through that no other has replaced.
func inPlace(view state.Reader, id Identity) error {
	node, ok := state.Get[*corev1.Node](view, state.Key{Name: id.Name})
	if ok && node.Annotations[object.MachineAnnotation] != "" && node.Annotations[object.MachineAnnotation] != id.Machine {
		return forbidden("another machine has joined as node " + id.Name + " in place of this one: run `mainstay agent --cleanup` here")
	}
	return nil
}

// certain makes sure that what speaks against a node holds now: this server may be behind another that has taken it in. What
// speaks for one may be a moment old.
func (a *API) certain(ctx context.Context, check func(state.Reader) error) error {
	if check(a.Store.View()) == nil {
		return nil
	}
	view, err := a.consistent(ctx)
	if err != nil {
		return err
	}
	return check(view)
}

// answer decodes a request, and encodes what handle makes of it; nil is no content.
func answer[Req any](w http.ResponseWriter, r *http.Request, handle func(context.Context, Req) (any, error)) error {
	var req Req
	if err := readBody(r, &req); err != nil {
		return err
	}
	result, err := handle(r.Context(), req)
	if err != nil {
		return writeFailed(err)
	}
	if result == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}

// readBody decodes all of a request's body. HTTP/2 keeps a buffer for what is not read to its end, as long as the request lasts.
func readBody(r *http.Request, req any) error {
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(raw, req)
	}
	if err != nil {
		return badBody(err)
	}
	return nil
}

// badBody says that a body is not what it should be, but never quotes it.
func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return apierrors.NewBadRequest("the request body is not the JSON that this endpoint takes")
}

// writeFailed turns a conflict that outlived its retries into something to try again: 409 would mean another cluster.
func writeFailed(err error) error {
	if errors.Is(err, state.ErrConflict) {
		return unavailable(err.Error())
	}
	return err
}

// itself lets a node through that speaks of itself.
func itself(id Identity, node string) error {
	if node != id.Name {
		return forbidden(fmt.Sprintf("node %s may not speak for node %q", id.Name, node))
	}
	return nil
}

// knownNode finds a node that has registered.
func knownNode(view state.Reader, name string) (*corev1.Node, error) {
	node, ok := state.Get[*corev1.Node](view, state.Key{Name: name})
	if !ok {
		return nil, apierrors.NewNotFound(link.NodesResource, name)
	}
	return node, nil
}

// heardNode finds a node that has registered and was not given up for silence since. To one that was, the answer is the same
// as to one that is unknown: only by registering anew it tells what has become of all that it runs.
func heardNode(view state.Reader, name string) (*corev1.Node, error) {
	node, err := knownNode(view, name)
	if err == nil && (object.Silent(node) || !object.Joined(node)) {
		return nil, apierrors.NewNotFound(link.NodesResource, name)
	}
	return node, err
}

// boundPod finds the Pod that a node speaks of, if it is the node's own.
func boundPod(view state.Reader, node string, ref link.PodRef) (*corev1.Pod, bool) {
	pod, ok := state.Get[*corev1.Pod](view, state.Key{Namespace: ref.Namespace, Name: ref.Name})
	if !ok || pod.UID != ref.UID || pod.Spec.NodeName != node {
		return nil, false
	}
	return pod, true
}

// seen passes on a sign of life.
func (a *API) seen(node string) {
	if a.Seen != nil {
		a.Seen(node)
	}
}
