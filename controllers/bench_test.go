package controllers_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/replicaset"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// BenchmarkReplicaSets makes 2 000 Pods from 200 ReplicaSets, in memory.
func BenchmarkReplicaSets(b *testing.B) {
	for b.Loop() {
		store := statetest.New(b)
		for i := range 200 {
			statetest.Put(b, store, replicaSetOf(fmt.Sprint("rs", i), 10))
		}
		if err := engine.Settle(b.Context(), store, []engine.Controller{replicaset.Controller()}, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

// bigCluster has 1 000 each of Deployments, Services, ConfigMaps and Secrets, all settled.
func bigCluster(b *testing.B) *state.Store {
	store := statetest.New(b)
	statetest.Update(b, store, func(tx *state.Txn) {
		for i := range 1000 {
			name := fmt.Sprint("app", i)
			meta := metav1.ObjectMeta{Namespace: "default", Name: name}
			svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": name},
				Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}}}
			for _, o := range []object.Object{deploymentOf(name, 0, strategy("25%", "25%")), svc,
				&corev1.ConfigMap{ObjectMeta: meta}, &corev1.Secret{ObjectMeta: meta}} {
				tx.Create(o)
				tx.Create(sourceOf(b, o))
			}
		}
		tx.Create(&object.Revision{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Status: object.RevisionStatus{Phase: object.RevisionActive}})
		tx.Create(&object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Status: object.ClusterStatus{Revision: "one"}})
	})
	settleOn(b, store)
	return store
}

func settleOn(b *testing.B, store *state.Store) {
	b.Helper()
	if err := engine.Settle(b.Context(), store, all(), time.Now()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkActivated is the controllers' work after 4 000 objects were declared at once.
func BenchmarkActivated(b *testing.B) {
	for b.Loop() {
		bigCluster(b)
	}
}

// BenchmarkSettled is one look at everything in a cluster of 4 000 objects where nothing is to do.
func BenchmarkSettled(b *testing.B) {
	store := bigCluster(b)
	for b.Loop() {
		settleOn(b, store)
	}
}

// BenchmarkDeploymentChange is what Deployment and Revision cost when one template changes in a cluster of 4 000 objects.
func BenchmarkDeploymentChange(b *testing.B) {
	store := bigCluster(b)
	key := state.Key{Namespace: "default", Name: "app7"}
	n := 0
	for b.Loop() {
		n++
		if _, err := store.Update(b.Context(), func(tx *state.Txn) error {
			d, _ := state.Get[*appsv1.Deployment](tx, key)
			d = d.DeepCopy()
			d.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("app:", n%2)
			tx.Update(d)
			return nil
		}); err != nil {
			b.Fatal(err)
		}
		for _, c := range all() {
			if c.Name == "deployment" || c.Name == "revision" {
				if _, err := store.Update(b.Context(), func(tx *state.Txn) error {
					_, err := c.Reconcile(tx, key, time.Now())
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
