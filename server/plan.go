package server

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/simulate"
)

// plan says what the uploaded manifests would do to this cluster. It runs what a commit runs, on a fork, and writes nothing.
func (s *server) plan(ctx context.Context, req api.PlanRequest) (any, error) {
	if err := s.ready(); err != nil {
		return nil, apierrors.NewServiceUnavailable(err.Error())
	}
	path := req.Path
	if path == "" {
		path = s.cfg.Git.Path
	}
	set, problems, err := new(load.Loader).Load(ctx, load.Files(req.Files, path))
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return plan.Report{Problems: problems}, nil
	}
	return simulate.Run(ctx, s.store.View(), s.acting(), gitsync.Desired(set), simulate.Commit{})
}

// acting is what acts on this cluster, for simulations.
func (s *server) acting() simulate.Cluster {
	return simulate.Cluster{Controllers: controllers(nil), Rules: gitsync.Rules}
}
