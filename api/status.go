package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

// errEnding is why requests end when the server does.
var errEnding = errors.New("the server is shutting down")

// response remembers what was answered, and that something was.
type response struct {
	http.ResponseWriter
	code int // 0: nothing yet
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach what it controls.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// refuse answers with err as a Status. Of an answer that has begun, only the end can be seen.
func (a *API) refuse(w *response, r *http.Request, err error) {
	if w.code != 0 {
		a.Log.Debug("answer ended early", "path", r.URL.Path, "err", err)
		return
	}
	status := statusOf(err)
	switch {
	case errors.Is(err, context.Canceled):
		a.Log.Debug("request ended with its client", "method", r.Method, "path", r.URL.Path)
	case errors.Is(err, errEnding):
		a.Log.Debug("request ended with the server", "method", r.Method, "path", r.URL.Path)
	case status.Code >= http.StatusInternalServerError:
		a.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if status.Code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(status.Details.RetryAfterSeconds))
	}
	writeJSON(w, int(status.Code), status)
}

// statusOf is what a client hears of err.
func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
	case errors.As(err, &tooLarge):
		known = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("at most %d bytes", tooLarge.Limit))
	case errors.Is(err, state.ErrNotLeader), errors.Is(err, state.ErrUnknown), errors.Is(err, errEnding):
		known = unavailable(err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		known = apierrors.NewTimeoutError(err.Error(), 1)
	default:
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	return status
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		body, code = []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"message":"the answer cannot be encoded"}`), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	writeParts(w, append(body, '\n'))
}

// partSize is how much of an answer is written at a time. HTTP/2 keeps a buffer as large as the largest frame that ever was on
// each connection, and this much fits into 8 KiB of it with the frame's header: thousands of agents hold a connection each.
const partSize = 8<<10 - 9

// writeParts writes an answer; a client that left needs none.
func writeParts(w io.Writer, body []byte) {
	for part := range slices.Chunk(body, partSize) {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

func notFound(path string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: fmt.Sprintf("the server could not find the requested resource: nothing is served at %s", path),
	}}
}
