package join

import (
	"context"
	"errors"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// settled notes that a node trusts the authority with this mark, and has its certificate from it.
func (g *Gate) settled(ctx context.Context, name, mark string) error {
	if mark != g.Authority.Mark() {
		return refuse(http.StatusConflict, errors.New("the cluster's authority is another one than the node keeps: renew the certificate"))
	}
	_, err := g.Store.Update(ctx, func(tx *state.Txn) error {
		node, ok := state.Get[*corev1.Node](tx, state.Key{Name: name})
		if !ok {
			return apierrors.NewNotFound(link.NodesResource, name)
		}
		if node.Annotations[object.AuthorityAnnotation] == mark {
			return nil
		}
		moved := node.DeepCopy()
		metav1.SetMetaDataAnnotation(&moved.ObjectMeta, object.AuthorityAnnotation, mark)
		tx.Update(moved)
		return nil
	})
	return err
}

// Settled reports whether a node is known to have moved to the authority with this mark.
func Settled(node *corev1.Node, mark string) bool {
	return node.Annotations[object.AuthorityAnnotation] == mark
}
