# build lists on ml-100k: valid block with tower_A; test block with tower_T; online with tower_S
from lists import *
import tower as tw, tower_training as tt
from offline.fitting import Schedule
import sys,os,pickle
art=sys.argv[1]; out=sys.argv[2]; twocfg=eval(sys.argv[3])
os.environ['ARTEFACTS_DIR']=os.path.abspath(art)
D=load(art)
on=pq.read_table(f'{art}/offline/common/online_imp.parquet')
# one table with online rows appended per user
user=np.r_[D.user,on['user_index'].to_numpy().astype(np.int64)]; 
item=np.r_[D.item,on['item_index'].to_numpy().astype(np.int64)]; label=np.r_[D.label,on['label'].to_numpy().astype(np.int64)]; split=np.r_[D.split,np.full(len(on),3,np.uint8)]
o=np.lexsort((split==3,user)); offpos=np.where(o<len(D.user),o,-1)
D=Data(user[o],item[o],label[o],split[o],D.U,D.I,D.flags)
f,e=starts_of(D.user); end=np.repeat(e,e-f)
split=D.split
def last_end(mask):  # exclusive end of the user's rows within mask
    c=np.zeros(D.U,np.int64); np.maximum.at(c,D.user[mask],np.flatnonzero(mask)+1); return c[D.user]
from offline.rank.training import Rows,Settings,fit as dfit,score as dscore
from data_exchange_center import catalogue
from data_exchange_center.assembler import USER_COLUMNS,ITEM_COLUMNS,assemble
from data_exchange_center.features import GENRE_FLAGS,HISTORY_COUNTS
from data_exchange_center.genre_history import window_counts
frame=catalogue.load_table(catalogue.TRAINING_FRAME); rows=Rows.from_table(frame)
meta=catalogue.load_json(catalogue.FEATURE_META); mm=catalogue.load_json(catalogue.MODEL_METRICS)['deepfm']
st=Settings(l2=mm['l2'],deep_inputs=mm['deep_inputs'])
uf=pq.read_table(f'{art}/offline/common/users.parquet'); itf=catalogue.load_table(catalogue.ITEM_FEATURES)
U=np.zeros((D.U,len(USER_COLUMNS)),np.int64); ui=uf['user_index'].to_numpy()
for k,c in enumerate(USER_COLUMNS):
    if c in uf.column_names: U[ui,k]=uf[c].to_numpy()
IT=np.zeros((D.I,len(ITEM_COLUMNS)),np.int64)
for k,c in enumerate(ITEM_COLUMNS): IT[itf['item_index'].to_numpy(),k]=itf[c].to_numpy()
IT[0]=0
gflags=IT[:,[ITEM_COLUMNS.index(g) for g in GENRE_FLAGS]].astype(np.uint8)
first=np.repeat(f,e-f); rowflags=gflags[D.item]; hcol=[USER_COLUMNS.index(h) for h in HISTORY_COUNTS]
def deepfm_scorer(model):
    def g(cuts,items):
        u=U[D.user[cuts]].copy(); u[:,hcol]=window_counts(rowflags,D.label,first[cuts],cuts)
        out=[]
        for i in range(0,len(cuts),300):
            s=slice(i,i+300); M=items.shape[1]
            sp_,de=assemble(np.repeat(u[s],M,0),IT[items[s].ravel()])
            with torch.no_grad(): out.append(model(torch.from_numpy(sp_),torch.from_numpy(de)).view(-1,M).numpy())
        return np.concatenate(out)
    return g
import ranker as rk
SP=[c for c in catalogue.load_json(catalogue.FEATURE_META)['columns']]
from data_exchange_center.features import SPARSE_COLUMNS
ucol,icol=SPARSE_COLUMNS.index('user_index'),SPARSE_COLUMNS.index('item_index')
res={}; E=twocfg['epochs']
def topk(tower,cuts,M=200):
    V=tt.user_vectors(tower,*S_.windows(cuts,tower.shape.window)); I=tower.item_vectors(); n=len(cuts)
    items=np.zeros((n,M),np.int64); score=np.zeros((n,M),np.float32)
    for i in range(0,n,512):
        s=slice(i,i+512); S=V[s]@I.T; c=cuts[s]; cnt=c-first[c]; ri=np.repeat(np.arange(len(c)),cnt)
        pos=np.arange(cnt.sum())-np.repeat(np.cumsum(cnt)-cnt,cnt)+np.repeat(first[c],cnt)
        S[ri,D.item[pos]]=-np.inf; S[:,0]=-np.inf
        t=torch.topk(torch.tensor(S),M,1); items[s]=t.indices.numpy(); score[s]=t.values.numpy()
    return items,score
S_=tt.Sequences.of(D.user,D.item,D.label,D.I)
W=[i for i,c in enumerate(USER_COLUMNS)]
from data_exchange_center.genre_history import liked_genres
for nm,fitm,block,every,fmn in (('valid',split==0,split==1,twocfg['every'],'valid_'),('test',split<=1,split==2,twocfg['every'],'measured_'),('online',split<=2,split==3,10,'')):
    t=time.time(); m,_=tt.fit_tower(tt.Sequences.of(D.user[fitm],D.item[fitm],D.label[fitm],D.I),tw.TowerShape(content=twocfg.get('content',False)),Schedule(E),0); t1=time.time()-t
    t=time.time(); sel=split[np.argsort(o)][:len(rows.labels)]
    fm_=dict(valid=sel==0,test=sel<=1,online=sel<=2)[nm]
    dm,_=dfit(rows.select(fm_),st,meta['vocabulary_sizes'],Schedule(mm['epochs']),2024); t2=time.time()-t
    if 'deepfm' in mm.get('calibration',{}): pass
    t=time.time(); fm=tuple(np.load(f'{art}/offline/recall/{fmn}{x}_vectors.npy') for x in ('user','item'))
    nb=rk.followers(D.user[fitm],D.item[fitm],D.I); cnt=np.bincount(D.item[fitm],minlength=D.I).astype(np.float32); ps=np.bincount(D.item[fitm],D.label[fitm],D.I).astype(np.float32)
    know=rk.CandidateKnowledge(rk.ItemKnowledge(m.item_vectors(),*fm,cnt,ps,*nb))
    R=rk.Ranker(dm,know,rk.RankNet(5+1+know.WIDTH,know.vectors),ucol,icol).eval()
    cuts=cuts_of(D,block,every); items,score=topk(m,cuts); M=200
    he=last_end(block); T=cuts[:,None]+np.arange(10); ok=T<he[cuts][:,None]; T=np.minimum(T,len(D.item)-1); tl=ok&(D.label[T]==1); ti=np.where(tl,D.item[T],-1)
    y=np.zeros(items.shape,bool)
    for h in range(10): y|=items==ti[:,h:h+1]
    hist=window_counts(rowflags,D.label,first[cuts],cuts); u=U[D.user[cuts]].copy(); u[:,hcol]=hist
    liked_g=liked_genres(hist); byterm=np.einsum('lg,lmg->lm',liked_g.astype(np.float32),gflags[items].astype(np.float32))>0
    rec=rk.recall_features(score,byterm,np.ones_like(byterm)); recent,lk=S_.windows(cuts,rk.RECENT)
    X=[]
    with torch.no_grad():
        for i in range(0,len(cuts),32):
            s=slice(i,i+32); k=len(cuts[s]); sp_,de=assemble(np.repeat(u[s],M,0),IT[items[s].ravel()])
            X.append(R.features(torch.from_numpy(sp_),torch.from_numpy(de),torch.from_numpy(rec[s].reshape(-1,5)),recent[s].repeat_interleave(M,0),lk[s].repeat_interleave(M,0))[1].view(k,M,-1))
    X=torch.cat(X).numpy(); t3=time.time()-t
    res[nm]=dict(user=D.user[cuts],cut=cuts,items=items,score=score,y=y,npos=tl.sum(1),X=X,names=[str(i) for i in range(X.shape[2])],recent=recent.numpy(),liked=lk.numpy(),vectors=know.vectors.numpy())
    L=Lists(**{k:None for k in ('user','cut','items','score','y','npos','X','names','seq','liked')}); L.__dict__.update(res[nm])
    print(nm,'tower %.1f deepfm %.1f lists %.1f'%(t1,t2,t3),X.shape,'recall order',ndcg_lists(L,score).mean(0).round(4),'recall@200',(y.sum(1)/np.maximum(L.npos,1))[L.npos>0].mean().round(4),flush=True)
    torch.save(dict(tower=m.state_dict(),deepfm=dm.state_dict()),f'{out}_{nm}.pt'); pickle.dump((know.state_dict(),dm.settings),open(f'{out}_{nm}_know.pkl','wb'))
pickle.dump(res,open(out+'.pkl','wb'))
