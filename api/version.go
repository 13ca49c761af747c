package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// futureWait is how long a read waits for a version that this server has not seen; kube-apiserver's figure.
	futureWait = 3 * time.Second
	// consistentWait bounds the wait for a quorum, elections and all: a client should rather ask another server than hang.
	consistentWait = 5 * time.Second
	// pageAge and maxPages bound what continue tokens keep alive: superseded objects.
	pageAge  = 5 * time.Minute
	maxPages = 32
)

// viewAt is the state for a resourceVersion as Kubernetes means it: "" is what holds now, on a quorum; "0" is whatever is
// here; n is that or anything newer. What is here while a server that started reads its log is nothing at first, and then the
// past: whoever took that for the cluster would take everything for deleted. So it first has to be current once.
func (a *API) viewAt(ctx context.Context, resourceVersion string) (*state.Snapshot, error) {
	switch resourceVersion {
	case "":
		return a.consistent(ctx)
	case "0":
		if a.caughtUp.Load() {
			return a.Store.View(), nil
		}
		return a.consistent(ctx)
	}
	v, err := parseVersion(resourceVersion)
	if err != nil {
		return nil, err
	}
	return a.waitFor(ctx, v)
}

func (a *API) consistent(ctx context.Context) (*state.Snapshot, error) {
	if a.ReadIndex != nil {
		bounded, cancel := context.WithTimeoutCause(ctx, consistentWait, errNoQuorum)
		defer cancel()
		if err := a.ReadIndex(bounded); err != nil {
			way := "resourceVersion=0 reads it as it is"
			if !a.caughtUp.Load() {
				way = "it never was since it started, so ask another server"
			}
			return nil, unavailable(fmt.Sprintf("this server cannot tell whether its state is current: %v; %s", err, way))
		}
	}
	a.caughtUp.Store(true)
	return a.Store.View(), nil
}

// becomeCurrent returns once the store was current: from then on it may be shown as it is, should the quorum be lost before
// anybody asks.
func (a *API) becomeCurrent(ctx context.Context) error {
	for !a.caughtUp.Load() && ctx.Err() == nil {
		if _, err := a.consistent(ctx); err == nil {
			return nil
		}
		select {
		case <-time.After(futureWait):
		case <-ctx.Done():
		}
	}
	return nil
}

var errNoQuorum = fmt.Errorf("no quorum answered within %s", consistentWait)

func (a *API) waitFor(ctx context.Context, v state.Version) (*state.Snapshot, error) {
	if view := a.Store.View(); view.Version >= v {
		return view, nil
	}
	bounded, cancel := context.WithTimeout(ctx, futureWait)
	defer cancel()
	view, err := a.Store.Wait(bounded, v)
	if err != nil {
		return nil, tooLarge(v, a.Store.View().Version)
	}
	return view, nil
}

// tooLarge is what kube-apiserver says of a version from the future; client-go lists again from nothing when it hears it.
func tooLarge(want, have state.Version) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", want, have), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

func parseVersion(s string) (state.Version, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %q", s))
	}
	return state.Version(v), nil
}

// page is the state a list is taken from, and the key that it starts after.
func (a *API) page(q request, opts *metainternal.ListOptions) (*state.Snapshot, *state.Key, error) {
	if opts.Continue == "" {
		if opts.ResourceVersionMatch != metav1.ResourceVersionMatchExact {
			view, err := a.viewAt(q.r.Context(), opts.ResourceVersion)
			return view, nil, err
		}
		v, err := parseVersion(opts.ResourceVersion)
		if err != nil {
			return nil, nil, err
		}
		view, err := a.exactly(q.r.Context(), v)
		return view, nil, err
	}
	t, err := parseToken(opts.Continue)
	if err != nil {
		return nil, nil, err
	}
	view, err := a.exactly(q.r.Context(), t.Version)
	return view, &state.Key{Namespace: t.Namespace, Name: t.Name}, err
}

func (a *API) exactly(ctx context.Context, v state.Version) (*state.Snapshot, error) {
	view, err := a.waitFor(ctx, v)
	if err != nil || view.Version == v {
		return view, err
	}
	if view, ok := a.pages.at(v); ok {
		return view, nil
	}
	return nil, expired(fmt.Sprintf("the state at version %d is not kept any more: list again from the start", v))
}

func expired(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired, Message: message,
	}}
}

// token says where the next page of a list starts: after a key, in the state at a version.
type token struct {
	Version   state.Version `json:"v"`
	Namespace string        `json:"ns,omitempty"`
	Name      string        `json:"n"`
}

func (t token) String() string {
	raw, err := json.Marshal(t)
	if err != nil {
		panic("api: a token cannot be encoded: " + err.Error()) // a number and two strings
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseToken(s string) (t token, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil || t.Name == "" {
		return token{}, apierrors.NewBadRequest("continue key is not valid")
	}
	return t, nil
}

// pages keeps the states that continue tokens name. The zero value is ready.
type pages struct {
	mu   sync.Mutex
	kept []page // oldest first; guarded by mu
}

type page struct {
	view    *state.Snapshot
	expires time.Time
}

// keep holds view until it is old, or too many newer ones are held.
func (p *pages) keep(view *state.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.kept {
		if p.kept[i].view.Version == view.Version {
			return
		}
	}
	p.drop(time.Now())
	if len(p.kept) == maxPages {
		p.kept = append(p.kept[:0:0], p.kept[1:]...)
	}
	p.kept = append(p.kept, page{view, time.Now().Add(pageAge)})
	time.AfterFunc(pageAge, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.drop(time.Now())
	})
}

// drop forgets what is old; p.mu is held.
func (p *pages) drop(now time.Time) {
	n := 0
	for n < len(p.kept) && !now.Before(p.kept[n].expires) {
		n++
	}
	p.kept = append(p.kept[:0:0], p.kept[n:]...)
}

func (p *pages) at(v state.Version) (*state.Snapshot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		if k.view.Version == v {
			return k.view, true
		}
	}
	return nil, false
}
