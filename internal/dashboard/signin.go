package dashboard

import (
	"errors"
	"net/http"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
)

func (d *Dashboard) signIn(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.Sessions.SignIn(w, r); err != nil {
		d.refuse(w, r, nil, signInProblem(err))
	}
}

func (d *Dashboard) callback(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.Sessions.Callback(w, r); err != nil {
		d.refuse(w, r, nil, signInProblem(err))
	}
}

func signInProblem(err error) error {
	if errors.Is(err, session.ErrSignIn) {
		return &problem{status: http.StatusBadRequest, title: "Not signed in", text: "Not signed in: " + err.Error() + ".",
			link: signInPath, linkText: "Sign in again"}
	}
	return issuerProblem(err)
}

func (d *Dashboard) signOut(w http.ResponseWriter, r *http.Request, who *session.Session) error {
	if !who.Genuine(r) {
		return errForged
	}
	http.Redirect(w, r, d.cfg.Sessions.SignOut(w, r, who, SignedOutPath), http.StatusSeeOther)
	return nil
}

func (d *Dashboard) signedOut(w http.ResponseWriter, r *http.Request) {
	page := d.frame(nil)
	page.Title = "Signed out"
	d.render(w, r, http.StatusOK, view.Notice(page, view.NoticeText{Title: "Signed out", Text: "You have signed out of this fleet’s dashboard.",
		Link: "/", LinkText: "Sign in again"}))
}
