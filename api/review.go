package api

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/yaml"
)

// maxReview bounds the body of a question; a real one has a few hundred bytes.
const maxReview = 64 << 10

// reviews are the questions that Kubernetes asks by POST: who am I, and what may I do. They change nothing.
var reviews = map[string]func(http.ResponseWriter, *http.Request, Identity) error{
	"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": accessReview,
	"/apis/authorization.k8s.io/v1/selfsubjectrulesreviews":  rulesReview,
	"/apis/authentication.k8s.io/v1/selfsubjectreviews":      subjectReview,
}

func accessReview(w http.ResponseWriter, r *http.Request, _ Identity) error {
	review := &authorizationv1.SelfSubjectAccessReview{}
	if err := decodeReview(r, review); err != nil {
		return err
	}
	verb, sub := "", ""
	switch spec := review.Spec; {
	case spec.ResourceAttributes != nil:
		verb, sub = spec.ResourceAttributes.Verb, spec.ResourceAttributes.Subresource
	case spec.NonResourceAttributes != nil:
		verb = spec.NonResourceAttributes.Verb
	default:
		return apierrors.NewBadRequest("the review asks about nothing: give resourceAttributes or nonResourceAttributes")
	}
	review.Status.Allowed = slices.Contains(verbs, verb) && !isRemote(sub)
	if !review.Status.Allowed {
		review.Status.Reason = "Mainstay is changed through Git"
	}
	review.TypeMeta.Kind, review.TypeMeta.APIVersion = "SelfSubjectAccessReview", authorizationv1.SchemeGroupVersion.String()
	writeJSON(w, http.StatusCreated, review)
	return nil
}

func rulesReview(w http.ResponseWriter, r *http.Request, _ Identity) error {
	review := &authorizationv1.SelfSubjectRulesReview{}
	if err := decodeReview(r, review); err != nil {
		return err
	}
	review.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{{Verbs: verbs, APIGroups: []string{"*"}, Resources: []string{"*"}}},
		NonResourceRules: []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}},
	}
	review.TypeMeta.Kind, review.TypeMeta.APIVersion = "SelfSubjectRulesReview", authorizationv1.SchemeGroupVersion.String()
	writeJSON(w, http.StatusCreated, review)
	return nil
}

func subjectReview(w http.ResponseWriter, _ *http.Request, id Identity) error {
	review := &authenticationv1.SelfSubjectReview{}
	review.Status.UserInfo = authenticationv1.UserInfo{Username: id.Name, Groups: append(slices.Clone(id.Groups), "system:authenticated")}
	review.TypeMeta.Kind, review.TypeMeta.APIVersion = "SelfSubjectReview", authenticationv1.SchemeGroupVersion.String()
	writeJSON(w, http.StatusCreated, review)
	return nil
}

// decodeReview reads a body in Kubernetes' protobuf, which kubectl sends, or in JSON or YAML.
func decodeReview(r *http.Request, into runtime.Object) error {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxReview))
	if err != nil {
		return fmt.Errorf("read review: %w", err)
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // what cannot be parsed is not protobuf
	if media == "application/vnd.kubernetes.protobuf" {
		scheme := reviewScheme()
		_, _, err = protobuf.NewSerializer(scheme, scheme).Decode(raw, nil, into)
	} else {
		err = yaml.Unmarshal(raw, into)
	}
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("the review cannot be read: %v", err))
	}
	return nil
}

func reviewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(authorizationv1.AddToScheme(scheme))
	return scheme
}
