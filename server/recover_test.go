package server

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

func TestOneServerIsRecoveredFromALostMajority(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	for i := range c.servers {
		until(t, c.servers[i], "three have a vote", voters("s1", "s2", "s3"))
	}
	for i := range c.servers {
		c.stop(t, i)
	}
	left := c.sites[1]
	survey, err := SurveyServers(t.Context(), left.data, slog.New(slog.DiscardHandler))
	if err != nil || survey.Server != "s2" || len(survey.Members) != 3 || survey.Index == 0 {
		t.Fatalf("%+v, %v", survey, err)
	}
	if _, err := Recover(t.Context(), left.data, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	c.start(t, 1)
	until(t, c.servers[1], "it is alone, has a vote, and tells why", func(r state.Reader) bool {
		cluster := plan.LiveCluster(r)
		return voters("s2")(r) && cluster != nil && apimeta.IsStatusConditionTrue(cluster.Status.Conditions, object.MajorityLost)
	})
	told := false
	for e := range state.List[*corev1.Event](c.servers[1].store.View(), "") {
		told = told || e.Reason == object.MajorityLost && strings.Contains(e.Message, "gave up s1, s3")
	}
	note, _ := os.ReadFile(filepath.Join(left.data, recoveriesFile))
	if !told || !strings.Contains(string(note), `"server":"s2"`) {
		t.Errorf("an Event tells of it: %t; the directory says %s", told, note)
	}
	// One that was given up comes back, and hears of it.
	given, stop := c.sites[0].control(t)
	if err := given.askToBelong(t.Context()); !errors.Is(err, errRemoved) {
		t.Errorf("a server that was given up is told %v", err)
	}
	_ = stop() // it may have ended by itself meanwhile, and has told why
}

func TestARecoveryIsRefusedWhereAMajorityIsThere(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	if _, err := Recover(t.Context(), c.sites[0].data, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "by another process") {
		t.Errorf("of a server that runs: %v", err)
	}
	_, others := c.followers(t)
	for i := range c.servers {
		until(t, c.servers[i], "three have a vote", voters("s1", "s2", "s3"))
	}
	for _, i := range others {
		c.stop(t, i)
	}
	survey, err := Recover(t.Context(), c.sites[others[0]].data, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "of 3 voters 2 are there") {
		t.Errorf("%v: %+v", err, survey)
	}
	if _, err := Recover(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "not the data directory of a server") {
		t.Errorf("of an empty directory: %v", err)
	}
}
