"""The rater's addresses. Codes are random and say nothing; see views.py for who may open what."""

from django.urls import URLPattern, path

from evalsite.voting import views

app_name = "voting"
urlpatterns: list[URLPattern] = [
    path("favicon.ico", views.icon, name="icon"),
    path("s/<str:code>/", views.landing, name="landing"),
    path("s/<str:code>/instructions", views.instructions, name="instructions"),
    path("s/<str:code>/next", views.next_pair, name="next"),
    path("s/<str:code>/ahead", views.ahead, name="ahead"),
    path("b/<str:code>/left", views.picture, {"side": "left"}, name="left"),
    path("b/<str:code>/right", views.picture, {"side": "right"}, name="right"),
    path("b/<str:code>/vote", views.vote, name="vote"),
    path("b/<str:code>/flag", views.flag, name="flag"),
    path("r/<str:code>", views.resume, name="resume"),
]
