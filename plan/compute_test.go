package plan_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

var rules = plan.Rules{Default: kube.Default, ValidateUpdate: kube.ValidateUpdate, Message: kube.Message}

var (
	commitA = plan.Commit{Hash: "aaaa", Author: "Ada <ada@example.com>"}
	commitB = plan.Commit{Hash: "bbbb", Author: "Bob <bob@example.com>"}
)

// tree is files with one document each, in order.
type tree [][2]string

func (files tree) desired(t *testing.T) (out []plan.Desired) {
	t.Helper()
	for _, f := range files {
		text, err := yaml.YAMLToJSON([]byte(f[1]))
		if err != nil {
			t.Fatal(err)
		}
		var meta metav1.TypeMeta
		if err := json.Unmarshal(text, &meta); err != nil {
			t.Fatal(err)
		}
		kind, ok := object.ByGVK(meta.GroupVersionKind())
		if !ok {
			t.Fatalf("%s: unknown kind %v", f[0], meta)
		}
		obj := kind.New()
		if err := json.Unmarshal(text, obj); err != nil {
			t.Fatal(err)
		}
		kube.Default(obj)
		out = append(out, plan.Desired{Object: obj, Kind: kind, Declared: text, Path: f[0], Line: 1})
	}
	return out
}

// activate applies files and returns what the plan did; it fails if the plan has problems.
func activate(t *testing.T, s *state.Store, files tree, commit plan.Commit) plan.Plan {
	t.Helper()
	var made plan.Plan
	statetest.Update(t, s, func(tx *state.Txn) {
		p, problems := plan.Compute(files.desired(t), rules, tx)
		if len(problems) > 0 {
			t.Fatalf("problems: %v", problems)
		}
		plan.Apply(tx, p, commit, time.Unix(1000, 0))
		made = p
	})
	return made
}

func rejected(t *testing.T, s *state.Store, files tree) []object.Problem {
	t.Helper()
	p, problems := plan.Compute(files.desired(t), rules, s.View())
	if len(problems) == 0 || !p.Empty() {
		t.Fatalf("want problems and no plan, got %v and %d changes", problems, len(p.Changes))
	}
	return problems
}

func steps(p plan.Plan) (out []string) {
	for _, c := range p.Changes {
		out = append(out, string(c.Action)+" "+c.Kind.Kind+" "+c.Key.String())
	}
	return out
}

const (
	namespaceShop = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}"
	configShop    = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: shop}, data: {a: '1'}}"
	webShop       = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
`
	podShop = `
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: shop}
spec: {containers: [{name: job, image: "job:1"}], terminationGracePeriodSeconds: 5}
`
)

func TestComputeOrdersOwnersFirstAndDeletesLast(t *testing.T) {
	s := statetest.New(t)
	first := activate(t, s, tree{{"web.yaml", webShop}, {"c.yaml", configShop}, {"ns.yaml", namespaceShop}}, commitA)
	want := []string{"create Namespace default", "create Namespace kube-system", "create Namespace shop", "create ConfigMap shop/c", "create Deployment shop/web"}
	if diff := cmp.Diff(want, steps(first)); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	cluster := "{apiVersion: mainstay.dev/v1alpha1, kind: Cluster, metadata: {name: prod}}"
	second := activate(t, s, tree{{"mainstay.yaml", cluster}}, commitB)
	want = []string{"create Cluster prod", "delete Deployment shop/web", "delete ConfigMap shop/c", "delete Namespace shop"}
	if diff := cmp.Diff(want, steps(second)); diff != "" {
		t.Errorf("second (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(plan.Counts{Created: 1, Deleted: 3}, second.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if n := state.Len[*object.Source](s.View()); n != 1 {
		t.Errorf("%d sources are left, want that of the Cluster alone", n)
	}
	if _, ok := state.Get[*corev1.Namespace](s.View(), state.Key{Name: "default"}); !ok {
		t.Error("namespace default is gone")
	}
}

// What the repository said of a namespace that always exists goes with its declaration; the namespace stays.
func TestAnOwnNamespaceOutlivesItsDeclaration(t *testing.T) {
	s := statetest.New(t)
	labelled := "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: a}}\n"
	activate(t, s, tree{{"c.yaml", settings}, {"ns.yaml", labelled}}, commitA)
	p := activate(t, s, tree{{"c.yaml", settings}}, commitB)
	if diff := cmp.Diff(plan.Counts{Changed: 1, Untouched: 1}, p.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	namespace, ok := state.Get[*corev1.Namespace](s.View(), state.Key{Name: "default"})
	if !ok || namespace.DeletionTimestamp != nil {
		t.Fatalf("namespace default: %+v", namespace)
	}
	if team := namespace.Labels["team"]; team != "" {
		t.Errorf("its label is still %q", team)
	}
	if n := state.Len[*object.Source](s.View()); n != 1 {
		t.Errorf("%d sources are left, want that of the ConfigMap", n)
	}
}

func TestApplyingAPlanLeavesNothingToDo(t *testing.T) {
	s := statetest.New(t)
	for _, files := range []tree{
		{{"ns.yaml", namespaceShop}, {"c.yaml", configShop}, {"web.yaml", webShop}, {"pod.yaml", podShop}},
		{{"ns.yaml", namespaceShop}, {"moved/c.yaml", configShop}, {"web.yaml", strings.Replace(webShop, "web:1", "web:2", 1)}},
		{{"web.yaml", strings.Replace(webShop, "namespace: shop", "namespace: default", 1)}},
	} {
		activate(t, s, files, commitA)
		version := s.View().Version
		if p := activate(t, s, files, commitB); !p.Empty() {
			t.Errorf("a second time: %v", steps(p))
		}
		if now := s.View().Version; now != version {
			t.Errorf("applying the same again wrote %d times", now-version)
		}
	}
}

// P4 and P7: moving a file changes nothing but where the object is said to come from.
func TestMovingAFileWritesOnlyItsSource(t *testing.T) {
	s := statetest.New(t)
	files := tree{{"ns.yaml", namespaceShop}, {"c.yaml", configShop}}
	activate(t, s, files, commitA)
	version := s.View().Version
	p := activate(t, s, tree{files[0], {"apps/c.yaml", configShop}}, commitB)
	if diff := cmp.Diff(plan.Counts{Untouched: 2, Moved: 1}, p.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if now := s.View().Version; now != version+1 {
		t.Errorf("%d objects were written, want 1", now-version)
	}
	source, _ := state.Get[*object.Source](s.View(), state.Key{Namespace: "shop", Name: "configmaps.c"})
	if source.Spec.Path != "apps/c.yaml" || source.Spec.Commit != commitA.Hash || source.Spec.Author != commitA.Author {
		t.Errorf("source = %s of %s by %s, want the new path and the commit that last changed the object", source.Spec.Path, source.Spec.Commit, source.Spec.Author)
	}
}

func TestAChangedObjectComesFromItsCommit(t *testing.T) {
	s := statetest.New(t)
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"c.yaml", configShop}}, commitA)
	p := activate(t, s, tree{{"ns.yaml", namespaceShop}, {"c.yaml", strings.Replace(configShop, "'1'", "'2'", 1)}}, commitB)
	if diff := cmp.Diff([]string{"update ConfigMap shop/c"}, steps(p)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	source, _ := state.Get[*object.Source](s.View(), state.Key{Namespace: "shop", Name: "configmaps.c"})
	other, _ := state.Get[*object.Source](s.View(), state.Key{Name: "namespaces.shop"})
	if source.Spec.Commit != commitB.Hash || other.Spec.Commit != commitA.Hash {
		t.Errorf("commits are %s and %s, want that of the change and the older one", source.Spec.Commit, other.Spec.Commit)
	}
	live, _ := state.Get[*corev1.ConfigMap](s.View(), state.Key{Namespace: "shop", Name: "c"})
	if live.Data["a"] != "2" {
		t.Errorf("data = %v", live.Data)
	}
}

// P3: a tree that declares nothing prunes nothing, and what has no Source is never pruned.
func TestAbsenceIsNotBelievedOfAnEmptyTree(t *testing.T) {
	s := statetest.New(t)
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"c.yaml", configShop}}, commitA)
	rejected(t, s, tree{})
	statetest.Put(t, s, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "not-ours"}})
	p := activate(t, s, tree{{"ns.yaml", namespaceShop}}, commitB)
	if diff := cmp.Diff([]string{"delete ConfigMap shop/c"}, steps(p)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestAMissingObjectIsMadeAnew(t *testing.T) {
	s := statetest.New(t)
	files := tree{{"ns.yaml", namespaceShop}, {"c.yaml", configShop}}
	activate(t, s, files, commitA)
	statetest.Update(t, s, func(tx *state.Txn) {
		c, _ := state.Get[*corev1.ConfigMap](tx, state.Key{Namespace: "shop", Name: "c"})
		tx.Delete(c)
	})
	if diff := cmp.Diff([]string{"create ConfigMap shop/c"}, steps(activate(t, s, files, commitB))); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestAForbiddenChangeIsAProblemWithItsPlace(t *testing.T) {
	s := statetest.New(t)
	activate(t, s, tree{{"ns.yaml", namespaceShop}, {"web.yaml", webShop}}, commitA)
	problems := rejected(t, s, tree{{"ns.yaml", namespaceShop}, {"apps/web.yaml", strings.ReplaceAll(webShop, "app: web", "app: shop")}})
	want := object.Problem{Path: "apps/web.yaml", Line: 1, Column: 1, Object: "Deployment shop/web", Field: "spec.selector"}
	got := problems[0]
	if !strings.Contains(got.Message, "immutable") || !strings.Contains(got.Message, "another name") {
		t.Errorf("message = %q, want why and what to do", got.Message)
	}
	got.Message = ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
}

func TestANameThatAControllerTookIsAProblem(t *testing.T) {
	s := statetest.New(t, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "u", Controller: new(true)},
	}}})
	set := strings.NewReplacer("kind: Deployment", "kind: ReplicaSet", "name: web,", "name: web-1,").Replace(webShop)
	problems := rejected(t, s, tree{{"ns.yaml", namespaceShop}, {"set.yaml", set}})
	if !strings.Contains(problems[0].Message, "taken by a ReplicaSet that Deployment web made") {
		t.Errorf("message = %q", problems[0].Message)
	}
}

func TestTheClusterKeepsItsName(t *testing.T) {
	const cluster = "{apiVersion: mainstay.dev/v1alpha1, kind: Cluster, metadata: {name: prod}}"
	s := statetest.New(t)
	activate(t, s, tree{{"mainstay.yaml", cluster}}, commitA)
	renamed := rejected(t, s, tree{{"mainstay.yaml", strings.Replace(cluster, "prod", "test", 1)}})
	forgotten := rejected(t, s, tree{{"ns.yaml", namespaceShop}})
	if !strings.Contains(renamed[0].Message, "write name: prod") || !strings.Contains(forgotten[0].Message, "name: prod") {
		t.Errorf("messages are %q and %q", renamed[0].Message, forgotten[0].Message)
	}
}
