package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// askedHeader says who asked for what a server passes on to the one that leads. Only servers may bring it.
const askedHeader = "Mainstay-Asked-By"

const (
	// passTime bounds what the leader may take: it has to be over before an agent gives up.
	passTime = 8 * time.Second
	// maxPassedAnswer bounds what is taken of the leader's answer: no answer to a write is large.
	maxPassedAnswer = 4 << 20
)

// written are the endpoints below node/ that write, so that the leader alone answers them.
var written = []string{"register", "report", "events", "renew"}

// asked is who made a request, and from where, as the server that it came to has found out.
type asked struct {
	Identity
	From string `json:"from"` // as in http.Request.RemoteAddr
}

type passedKey struct{}

// passed is who made a request that another server has passed on.
func passed(r *http.Request) (Identity, bool) {
	id, ok := r.Context().Value(passedKey{}).(Identity)
	return id, ok
}

// received is a request as it came to the first server. That one is believed: who has a server's certificate is the cluster.
func (a *API) received(r *http.Request) (*http.Request, error) {
	said := r.Header.Get(askedHeader)
	if said == "" {
		return r, nil
	}
	if id, ok := identify(r); !ok || !id.in(GroupServers) {
		return nil, forbidden("only servers pass requests on, so none but theirs have the header " + askedHeader)
	}
	var by asked
	if err := json.Unmarshal([]byte(said), &by); err != nil {
		return nil, apierrors.NewBadRequest("the header " + askedHeader + " is not understood: give all servers the same version")
	}
	r = r.WithContext(context.WithValue(r.Context(), passedKey{}, by.Identity))
	r.RemoteAddr = by.From
	return r, nil
}

// passOn gives a request to the server that leads, if that is another one, and answers as it does. False: this one leads. What
// was passed on is never passed on again: two servers that each take the other for the leader would do that for ever.
func (a *API) passOn(w http.ResponseWriter, r *http.Request, id Identity) (done bool, err error) {
	if a.Leader == nil {
		return false, nil
	}
	leader, err := a.Leader(r.Context())
	switch {
	case err != nil:
		return true, unavailable(err.Error())
	case leader == "":
		return false, nil
	}
	if _, ok := passed(r); ok {
		return true, unavailable("this server does not lead any more: try again")
	}
	return true, a.passTo(leader, w, r, id)
}

func (a *API) passTo(leader string, w http.ResponseWriter, r *http.Request, id Identity) error {
	ctx, cancel := context.WithTimeoutCause(r.Context(), passTime, fmt.Errorf("no answer within %s", passTime))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "https://"+leader+r.URL.Path, r.Body)
	if err != nil {
		return fmt.Errorf("pass on to the server that leads: %w", err)
	}
	by, err := json.Marshal(asked{Identity: id, From: r.RemoteAddr})
	if err != nil {
		return fmt.Errorf("pass on to the server that leads: %w", err)
	}
	req.ContentLength = r.ContentLength
	req.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	req.Header.Set(askedHeader, string(by))
	resp, err := a.Peers.RoundTrip(req)
	if err != nil {
		return unanswered(ctx, leader, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxPassedAnswer))
	if err != nil {
		return unanswered(ctx, leader, err)
	}
	for _, name := range []string{"Content-Type", "Retry-After"} {
		if value := resp.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // a client that left needs no answer
	return nil
}

// unanswered is what a client hears if the leader did not answer. Perhaps it has done what it was asked for.
func unanswered(ctx context.Context, leader string, err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, errEnding) {
		return err
	}
	return unavailable(fmt.Sprintf("the server that leads, at %s, did not answer: %v. Whether it did what was asked is not known: try again", leader, err))
}

// soon is in how many seconds a client should try again while servers find a new leader.
const soon = 1

// unavailable is a refusal after which a client should try again, here or with another server.
func unavailable(why string) *apierrors.StatusError {
	err := apierrors.NewServiceUnavailable(why)
	err.ErrStatus.Details = apierrors.NewTimeoutError(why, soon).ErrStatus.Details
	return err
}

// writes says whether an endpoint below node/ is for the server that leads.
func writes(endpoint string) bool { return slices.Contains(written, endpoint) }
