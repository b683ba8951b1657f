from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Q


def count_ballots(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Ballots are drawn once, on opening, and never deleted: they tell what was planned."""
    Study = apps.get_model("studies", "Study")
    Ballot = apps.get_model("voting", "Ballot")
    for study in Study.objects.exclude(state="DRAFT"):
        planned = Ballot.objects.filter(criterion__study=study, purpose="COUNTED").count()
        Study.objects.filter(pk=study.pk).update(n_planned=planned)


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0004_painting_cancelled'),
        ('voting', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='study',
            name='n_planned',
            field=models.PositiveIntegerField(
                blank=True, editable=False, null=True, verbose_name='votes planned'
            ),
        ),
        migrations.RunPython(count_ballots, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name='study',
            constraint=models.CheckConstraint(
                condition=Q(('n_planned', None), ('state', 'DRAFT'))
                | Q(~Q(('state', 'DRAFT')), ('n_planned__isnull', False)),
                name='study_opened_has_its_planned_votes',
            ),
        ),
    ]
