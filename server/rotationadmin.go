package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// finishing is who may be cut off by the end of a rotation.
type finishing struct {
	LeaveBehind []string `json:"leaveBehind"`
}

// administerAuthority answers what root may ask of the cluster's authority.
func (s *server) administerAuthority(mux *http.ServeMux) {
	tell := func(w http.ResponseWriter, r *http.Request, err error) {
		var status AuthorityStatus
		if err == nil {
			status, err = s.authorityStatus(r.Context())
		}
		answerAdmin(w, status, err)
	}
	mux.HandleFunc("GET /ca", func(w http.ResponseWriter, r *http.Request) { tell(w, r, nil) })
	mux.HandleFunc("POST /ca/rotate", func(w http.ResponseWriter, r *http.Request) {
		tell(w, r, s.byLeader(r.Context(), pathRotate, "", s.rotateAuthority))
	})
	mux.HandleFunc("POST /ca/finish", func(w http.ResponseWriter, r *http.Request) {
		var asked finishing
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			answerAdmin(w, nil, fmt.Errorf("the request is not understood: %w", err))
			return
		}
		tell(w, r, s.byLeader(r.Context(), pathFinish, strings.Join(asked.LeaveBehind, ","), s.finishRotation))
	})
}

// Authority says how far a rotation of the cluster's authority is.
func (a Admin) Authority(ctx context.Context) (status AuthorityStatus, err error) {
	return status, a.call(ctx, http.MethodGet, "/ca", nil, &status)
}

// RotateAuthority has a new authority sign from now on; the former one is trusted until FinishRotation.
func (a Admin) RotateAuthority(ctx context.Context) (status AuthorityStatus, err error) {
	return status, a.call(ctx, http.MethodPost, "/ca/rotate", nil, &status)
}

// FinishRotation ends the trust in the former authority. It is refused while anybody but those left behind depends on it.
func (a Admin) FinishRotation(ctx context.Context, leaveBehind []string) (status AuthorityStatus, err error) {
	return status, a.call(ctx, http.MethodPost, "/ca/finish", finishing{leaveBehind}, &status)
}
