package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// sim is a cluster in which a test decides what happens next: which controller looks at which key, or what a node does.
type sim struct {
	t           *testing.T
	store       *state.Store
	now         time.Time
	controllers []engine.Controller
	stuck       func(*corev1.Pod) bool // Pods that never become Ready
}

func newSim(t *testing.T, controllers ...engine.Controller) *sim {
	s := &sim{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), controllers: controllers, stuck: func(*corev1.Pod) bool { return false }}
	s.store = statetest.New(t)
	for _, name := range []string{"n1", "n2"} {
		s.put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return s
}

func deploymentOf(name string, replicas int32, strategy appsv1.DeploymentStrategy) *appsv1.Deployment {
	set := map[string]string{"app": name}
	deadline, history := int32(600), int32(10)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Strategy: strategy, ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &history,
			Selector: &metav1.LabelSelector{MatchLabels: set},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: set},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
			},
		},
	}
}

func (s *sim) put(objects ...object.Object) { statetest.Put(s.t, s.store, objects...) }

func (s *sim) change(name string, how func(*appsv1.Deployment)) {
	statetest.Update(s.t, s.store, func(tx *state.Txn) {
		d, _ := state.Get[*appsv1.Deployment](tx, state.Key{Namespace: "default", Name: name})
		d = d.DeepCopy()
		how(d)
		tx.Update(d)
	})
}

func (s *sim) changeTemplate(name, image string) {
	s.change(name, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
}

// step does one of the things that can happen now and change something, pick chooses which; false if nothing can.
func (s *sim) step(pick int) bool {
	moves := s.moves()
	for i := range moves {
		before := s.store.View().Version
		moves[(pick+i)%len(moves)]()
		if s.store.View().Version != before {
			return true
		}
	}
	return false
}

// finish lets everything happen that can.
func (s *sim) finish() {
	s.t.Helper()
	for i := range 10_000 {
		if !s.step(i) {
			return
		}
	}
	s.t.Fatalf("does not come to rest: %v", s.describe())
}

func (s *sim) moves() []func() {
	var moves []func()
	for _, d := range s.deployments() {
		moves = append(moves, func() { s.reconcile("deployment", state.KeyOf(d)) })
	}
	for _, rs := range s.replicaSets() {
		moves = append(moves, func() { s.reconcile("replicaset", state.KeyOf(rs)) })
	}
	for _, node := range slices.Collect(state.List[*corev1.Node](s.store.View(), "")) {
		moves = append(moves, func() { s.reconcile("prepull", state.KeyOf(node)) })
	}
	for i, pod := range s.pods() {
		moves = append(moves, func() { s.advance(pod, i) })
	}
	return moves
}

func (s *sim) reconcile(name string, key state.Key) {
	i := slices.IndexFunc(s.controllers, func(c engine.Controller) bool { return c.Name == name })
	if i < 0 {
		return
	}
	if _, err := s.store.Update(s.t.Context(), func(tx *state.Txn) error {
		_, err := s.controllers[i].Reconcile(tx, key, s.now)
		return err
	}); err != nil {
		s.t.Fatalf("%s %s: %v", name, key, err)
	}
}

// advance is what scheduler and node would do next with a Pod.
func (s *sim) advance(pod *corev1.Pod, i int) {
	statetest.Update(s.t, s.store, func(tx *state.Txn) { s.act(tx, pod.DeepCopy(), i) })
}

func (s *sim) act(tx *state.Txn, pod *corev1.Pod, i int) {
	_, ready := podcontrol.Ready(pod)
	switch {
	case pod.DeletionTimestamp != nil:
		tx.Delete(pod)
	case pod.Spec.NodeName == "":
		pod.Spec.NodeName = fmt.Sprint("n", i%2+1)
		tx.Update(pod)
	case !ready && !podcontrol.Finished(pod) && !s.stuck(pod):
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.now)}}
		tx.SetStatus(pod)
	}
}

func (s *sim) deployments() []*appsv1.Deployment {
	return slices.Collect(state.List[*appsv1.Deployment](s.store.View(), ""))
}

func (s *sim) replicaSets() []*appsv1.ReplicaSet {
	return slices.Collect(state.List[*appsv1.ReplicaSet](s.store.View(), ""))
}

func (s *sim) pods() []*corev1.Pod {
	return slices.Collect(state.List[*corev1.Pod](s.store.View(), ""))
}

func (s *sim) uids() []string {
	var uids []string
	for _, pod := range s.pods() {
		uids = append(uids, string(pod.UID))
	}
	slices.Sort(uids)
	return uids
}

func (s *sim) deployment(name string) *appsv1.Deployment {
	d, _ := state.Get[*appsv1.Deployment](s.store.View(), state.Key{Namespace: "default", Name: name})
	return d
}

// current is the ReplicaSet that has replicas; there must be one alone.
func (s *sim) current(name string) *appsv1.ReplicaSet {
	s.t.Helper()
	sets := slices.DeleteFunc(s.replicaSets(), func(rs *appsv1.ReplicaSet) bool {
		return *rs.Spec.Replicas == 0 || metav1.GetControllerOf(rs).Name != name
	})
	if len(sets) != 1 {
		s.t.Fatalf("%d ReplicaSets have replicas: %v", len(sets), s.describe())
	}
	return sets[0]
}

func (s *sim) condition(name string, kind appsv1.DeploymentConditionType) appsv1.DeploymentCondition {
	for _, c := range s.deployment(name).Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return appsv1.DeploymentCondition{}
}

// mustKeep fails if more Pods run than may, or fewer are available.
func (s *sim) mustKeep(replicas int, limit bounds) {
	s.t.Helper()
	active, available := 0, 0
	for _, pod := range s.pods() {
		if podcontrol.Active(pod) {
			active++
			if _, ready := podcontrol.Ready(pod); ready {
				available++
			}
		}
	}
	if active > replicas+limit.surge || available < replicas-limit.unavailable {
		s.t.Fatalf("%d Pods, at most %d; %d available, at least %d: %v", active, replicas+limit.surge, available, replicas-limit.unavailable, s.describe())
	}
}

func (s *sim) mustBeComplete(name string, replicas int32) {
	s.t.Helper()
	d, rs := s.deployment(name), s.current(name)
	st := d.Status
	if st.Replicas != replicas || st.UpdatedReplicas != replicas || st.AvailableReplicas != replicas || st.UnavailableReplicas != 0 || st.ObservedGeneration != d.Generation {
		s.t.Errorf("status is not that of a complete rollout: %+v", st)
	}
	if got, want := rs.Spec.Template.Spec.Containers[0].Image, d.Spec.Template.Spec.Containers[0].Image; got != want {
		s.t.Errorf("Pods of %s, want %s", got, want)
	}
	if c := s.condition(name, appsv1.DeploymentProgressing); c.Reason != "NewReplicaSetAvailable" || c.Status != corev1.ConditionTrue {
		s.t.Errorf("Progressing is %+v", c)
	}
	if c := s.condition(name, appsv1.DeploymentAvailable); c.Status != corev1.ConditionTrue {
		s.t.Errorf("Available is %+v", c)
	}
}

func (s *sim) describe() string {
	var lines []string
	for _, rs := range s.replicaSets() {
		lines = append(lines, fmt.Sprintf("%s %s wants %d, status %+v", rs.Name, rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas, rs.Status))
	}
	for _, pod := range s.pods() {
		_, ready := podcontrol.Ready(pod)
		lines = append(lines, fmt.Sprintf("%s on %q ready %t dying %t", pod.Name, pod.Spec.NodeName, ready, pod.DeletionTimestamp != nil))
	}
	return strings.Join(lines, "\n")
}
