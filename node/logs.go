package node

import (
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

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// LogPath is where LogHandler answers: LogPath{namespace}/{pod}/{container}.
const LogPath = "/mainstay/v1/logs/"

// logBuffer is what is read of a log at once; a followed log is passed on line by line or so.
const logBuffer = 32 << 10

// LogHandler serves containers' output as plain text. The query says what of it: uid of the Pod, previous=true for the
// attempt before the newest, follow=true, tail=N lines, since=RFC3339, timestamps=true, limit=N bytes. Errors are Status
// objects. It asks nobody who they are: the caller puts it behind authentication.
func LogHandler(rt runtime.Runtime) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LogPath+"{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if err := serveLog(w, r, rt); err != nil && r.Context().Err() == nil {
			writeStatus(w, err)
		}
	})
	return mux
}

// wantedLog is what of whose output is asked for.
type wantedLog struct {
	Namespace, Pod, Container, UID string
	Previous                       bool
	Limit                          int64 // bytes; 0 for no limit
	Options                        runtime.LogOptions
}

func serveLog(w http.ResponseWriter, r *http.Request, rt runtime.Runtime) error {
	want, err := parseLog(r)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	id, err := findLog(r.Context(), rt, want)
	if err != nil {
		return err
	}
	from, err := rt.Logs(r.Context(), id, want.Options)
	if errors.Is(err, runtime.ErrNotFound) {
		return apierrors.NewNotFound(corev1.Resource("pods"), want.Pod)
	}
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read logs of container %s: %w", want.Container, err))
	}
	defer from.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	var text io.Reader = from
	if want.Limit > 0 {
		text = io.LimitReader(from, want.Limit)
	}
	stream(w, text)
	return nil
}

// stream passes on what comes as it comes. The answer has begun, so an error can only end it.
func stream(w http.ResponseWriter, from io.Reader) {
	out := http.NewResponseController(w)
	_ = out.Flush() // a transport that cannot flush sends what it has at the end
	buf := make([]byte, logBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, failed := w.Write(buf[:n]); failed != nil {
				return
			}
			_ = out.Flush() // likewise
		}
		if err != nil {
			return
		}
	}
}

func parseLog(r *http.Request) (wantedLog, error) {
	q := r.URL.Query()
	want := wantedLog{
		Namespace: r.PathValue("namespace"), Pod: r.PathValue("pod"), Container: r.PathValue("container"), UID: q.Get("uid"),
		Options: runtime.LogOptions{Tail: -1},
	}
	p := params{q: q}
	want.Previous = p.flag("previous")
	want.Options.Follow = p.flag("follow")
	want.Options.Timestamps = p.flag("timestamps")
	want.Limit = p.number("limit", 0)
	want.Options.Tail = int(p.number("tail", -1))
	want.Options.Since = p.moment("since")
	return want, p.err
}

// params reads a query and remembers the first mistake in it.
type params struct {
	q   url.Values
	err error
}

func (p *params) flag(name string) bool {
	v, err := strconv.ParseBool(p.or(name, "false"))
	p.note(name, err)
	return v
}

func (p *params) number(name string, absent int64) int64 {
	v, err := strconv.ParseInt(p.or(name, strconv.FormatInt(absent, 10)), 10, 64)
	p.note(name, err)
	return v
}

func (p *params) moment(name string) time.Time {
	text := p.q.Get(name)
	if text == "" {
		return time.Time{}
	}
	v, err := time.Parse(time.RFC3339Nano, text)
	p.note(name, err)
	return v
}

func (p *params) or(name, absent string) string {
	if v := p.q.Get(name); v != "" {
		return v
	}
	return absent
}

func (p *params) note(name string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("query parameter %s: %w", name, err)
	}
}

// findLog picks the attempt whose output is wanted.
func findLog(ctx context.Context, rt runtime.Runtime, want wantedLog) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errEngineSilent)
	defer cancel()
	pods, err := rt.Pods(ctx)
	if err != nil {
		return "", apierrors.NewInternalError(fmt.Errorf("look for pod %s/%s: %w", want.Namespace, want.Pod, err))
	}
	i := slices.IndexFunc(pods, func(p runtime.Pod) bool {
		return p.Pod.Namespace == want.Namespace && p.Pod.Name == want.Pod && (want.UID == "" || string(p.Pod.UID) == want.UID)
	})
	if i < 0 {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", want.Container, want.Pod, reasonCreating))
	}
	return pickLog(pods[i], want)
}

func pickLog(p runtime.Pod, want wantedLog) (string, error) {
	if containerOf(p.Pod, want.Container) == nil {
		var all []string
		for c := range containers(p.Pod) {
			all = append(all, c.Name)
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s; it has %s", want.Container, want.Pod, strings.Join(all, ", ")))
	}
	var attempts []runtime.Container
	for _, c := range p.Containers {
		if c.Name == want.Container && c.State != runtime.Created {
			attempts = append(attempts, c)
		}
	}
	slices.SortStableFunc(attempts, func(a, b runtime.Container) int { return a.Attempt - b.Attempt })
	switch n := len(attempts); {
	case n == 0:
		reason := reasonCreating
		if len(p.Pod.Spec.InitContainers) > 0 {
			reason = reasonInitializing
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", want.Container, want.Pod, reason))
	case !want.Previous:
		return attempts[n-1].ID, nil
	case n == 1:
		return "", apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", want.Container, want.Pod))
	default:
		return attempts[n-2].ID, nil
	}
}

func writeStatus(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	s.Kind, s.APIVersion = "Status", "v1"
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s) // the peer is gone if this fails
}
