package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

func header(table *metav1.Table) (narrow, wide string) {
	var n, w []string
	for _, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			n = append(n, c.Name)
		} else {
			w = append(w, c.Name)
		}
	}
	return strings.Join(n, " "), strings.Join(w, " ")
}

func TestTableOfEveryKind(t *testing.T) {
	for _, k := range object.Kinds() {
		obj := k.New()
		obj.SetName("a")
		table := Table(k, []object.Object{obj, obj})
		if len(table.Rows) != 2 || len(table.Rows[1].Cells) != len(table.ColumnDefinitions) || table.Rows[1].Object.Object != obj {
			t.Errorf("%s: %d columns, rows %+v", k.Kind, len(table.ColumnDefinitions), table.Rows)
		}
		if narrow, _ := header(table); k.Kind != "Event" && !strings.HasPrefix(narrow, "Name") {
			t.Errorf("%s: columns %s", k.Kind, narrow)
		}
	}
}

func TestTableOfPodsIsKubernetes(t *testing.T) {
	p := barePod()
	p.CreationTimestamp = metav1.NewTime(time.Now().Add(-5 * time.Minute))
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Ready: false, RestartCount: 3,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}}
	table := Table(object.KindFor[*corev1.Pod](), []object.Object{p})
	if diff := cmp.Diff([]any{"web", "0/1", "CrashLoopBackOff", "3", "5m"}, table.Rows[0].Cells[:5]); diff != "" {
		t.Error(diff)
	}
	narrow, wide := header(table)
	if narrow != "Name Ready Status Restarts Age" || wide != "IP Node Nominated Node Readiness Gates" {
		t.Errorf("columns %s | %s", narrow, wide)
	}
}

func TestTableOfRevisions(t *testing.T) {
	now := time.Now()
	r := &object.Revision{ObjectMeta: metav1.ObjectMeta{Name: "0123456789ab", CreationTimestamp: metav1.NewTime(now.Add(-2 * time.Hour))}}
	r.Spec = object.RevisionSpec{Author: "Ada Lovelace <ada@example.com>", Subject: strings.Repeat("long ", 30) + "\x1b[2J", Branch: "main"}
	activated, ended := metav1.NewTime(now.Add(-time.Hour)), metav1.NewTime(now.Add(-time.Hour+3*time.Second))
	r.Status = object.RevisionStatus{Phase: object.RevisionConverged, Created: 3, Changed: 2, Deleted: 1, ActivatedAt: &activated, EndedAt: &ended}
	table := Table(object.KindFor[*object.Revision](), []object.Object{r})
	subject := strings.Repeat("long ", 12) + "lon…"
	want := []any{"0123456789ab", "Converged", "Ada Lovelace", subject, int64(3), int64(2), int64(1), "120m", int64(0), "3s", "main", "<none>"}
	if diff := cmp.Diff(want, table.Rows[0].Cells); diff != "" {
		t.Error(diff)
	}
	r.Status.Phase = object.RevisionFailed
	if took := Table(object.KindFor[*object.Revision](), []object.Object{r}).Rows[0].Cells[9]; took != "<none>" {
		t.Errorf("a failed revision converged after %v", took)
	}
}
