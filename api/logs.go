package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

// logsPath is where an agent serves logs: <namespace>/<pod>/<container> below it.
const logsPath = "/mainstay/v1/logs/"

// agentAnswer bounds the wait for an agent's first byte of headers; following may then go on for ever.
const agentAnswer = 15 * time.Second

var errAgentSilent = fmt.Errorf("the agent did not answer within %s", agentAnswer)

// logs streams a container's output from the agent that runs it.
func (a *API) logs(w http.ResponseWriter, q request) error {
	view, err := a.consistent(q.r.Context())
	if err != nil {
		return err
	}
	pod, ok := state.Get[*corev1.Pod](view, q.key)
	if !ok {
		return apierrors.NewNotFound(q.kind.GroupResource(), q.key.Name)
	}
	query := q.r.URL.Query()
	container, err := containerFor(pod, query.Get("container"))
	if err != nil {
		return err
	}
	options, limit, err := logOptions(query, time.Now())
	if err != nil {
		return err
	}
	options.Set("uid", string(pod.UID))
	w.Header().Set("Content-Type", "text/plain")
	if pod.Spec.NodeName == "" {
		w.WriteHeader(http.StatusOK) // as in Kubernetes: a Pod without a node has said nothing yet
		return nil
	}
	if err := stillWaiting(pod, container); err != nil {
		return err
	}
	if _, err := AgentAddress(view, pod.Spec.NodeName); err != nil {
		return err
	}
	at := url.URL{Scheme: "https", Host: pod.Spec.NodeName, Path: logsPath + pod.Namespace + "/" + pod.Name + "/" + container, RawQuery: options.Encode()}
	return a.stream(q.r.Context(), w, at.String(), limit)
}

// stillWaiting is the refusal for a container that never ran, if its status says why. One that is merely about to be made has
// perhaps been made by now, which its agent knows.
func stillWaiting(pod *corev1.Pod, container string) error {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if waiting := s.State.Waiting; s.Name == container && waiting != nil && waiting.Message != "" && s.LastTerminationState.Terminated == nil {
			return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s: %s", container, pod.Name, waiting.Reason, waiting.Message))
		}
	}
	return nil
}

// stream copies what the agent answers, as it comes.
func (a *API) stream(ctx context.Context, w http.ResponseWriter, at string, limit int64) error {
	if a.Agents == nil {
		return apierrors.NewServiceUnavailable("this server does not reach agents, so it has no logs")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(agentAnswer, func() { cancel(errAgentSilent) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return fmt.Errorf("ask agent for logs: %w", err)
	}
	resp, err := a.Agents.RoundTrip(req)
	silent.Stop()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("ask agent for logs: %w", cmp.Or(context.Cause(ctx), err)))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return agentRefusal(resp)
	}
	var body io.Reader = resp.Body
	if limit > 0 {
		body = io.LimitReader(body, limit)
	}
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return fmt.Errorf("copy logs: %w", err)
	}
	_, err = io.Copy(flushing{w, control}, body)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("copy logs: %w", err)
	}
	return nil
}

// flushing sends every piece at once, so that `kubectl logs -f` shows lines as they are written.
type flushing struct {
	io.Writer
	control *http.ResponseController
}

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.Writer.Write(b)
	return n, errors.Join(err, f.control.Flush())
}

// agentRefusal hands on an agent's Status, or says which code it gave.
func agentRefusal(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxReview)) // a partial body is no Status
	var status metav1.Status
	if json.Unmarshal(raw, &status) == nil && status.Kind == "Status" {
		status.Code = int32(resp.StatusCode)
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewInternalError(fmt.Errorf("the agent answered %s", resp.Status))
}

// containerFor chooses the container as Kubernetes does: the only one, or the one named, init containers included.
func containerFor(pod *corev1.Pod, name string) (string, error) {
	names := func(list []corev1.Container) (out []string) {
		for _, c := range list {
			out = append(out, c.Name)
		}
		return out
	}
	main, init := names(pod.Spec.Containers), names(pod.Spec.InitContainers)
	switch {
	case name == "" && len(main) == 1:
		return main[0], nil
	case name == "":
		message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(main, " "))
		if len(init) > 0 {
			message += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(init, " "))
		}
		return "", apierrors.NewBadRequest(message)
	case slices.Contains(main, name), slices.Contains(init, name):
		return name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

// logOptions turns Kubernetes' parameters into the agent's; limit is in bytes, 0 for none.
func logOptions(query url.Values, now time.Time) (out url.Values, limit int64, err error) {
	out = url.Values{}
	for _, flag := range []string{"follow", "previous", "timestamps"} {
		if isTrue(query.Get(flag)) {
			out.Set(flag, "true")
		}
	}
	tail, err := wholeNumber(query, "tailLines", 0)
	if err != nil {
		return nil, 0, err
	}
	if query.Has("tailLines") {
		out.Set("tail", strconv.FormatInt(tail, 10))
	}
	seconds, err := wholeNumber(query, "sinceSeconds", 1)
	if err != nil {
		return nil, 0, err
	}
	since := query.Get("sinceTime")
	switch {
	case since != "" && seconds > 0:
		return nil, 0, apierrors.NewBadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
	case since != "":
		if _, err := time.Parse(time.RFC3339, since); err != nil {
			return nil, 0, apierrors.NewBadRequest(fmt.Sprintf("sinceTime: %v", err))
		}
		out.Set("since", since)
	case seconds > 0:
		out.Set("since", now.Add(-time.Duration(seconds)*time.Second).UTC().Format(time.RFC3339Nano))
	}
	limit, err = wholeNumber(query, "limitBytes", 1)
	return out, limit, err
}

// wholeNumber reads a parameter that may be absent, in which case it is 0.
func wholeNumber(query url.Values, name string, least int64) (int64, error) {
	if !query.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseInt(query.Get(name), 10, 64)
	if err != nil || n < least {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("%s must be a whole number of at least %d, not %q", name, least, query.Get(name)))
	}
	return n, nil
}
