"""Addresses of this room: staff only, but for the first page."""

from django.urls import URLPattern, path

from evalsite.results import views
from evalsite.results.documents import DOCUMENTS

app_name = "results"
urlpatterns: list[URLPattern] = [
    path("", views.home, name="home"),
    path("studies/", views.studies, name="studies"),
    path("studies/<slug:slug>/", views.study, name="study"),
    *(
        path(f"studies/<slug:slug>/{name}", views.document, {"name": name}, name=name)
        for name in DOCUMENTS
    ),
]
